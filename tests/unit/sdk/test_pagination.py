from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead_sdk.errors import Data
from wellhead_sdk.pagination import Answer, CursorPages, NoPages, Query, Walk, at

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MODE = CursorPages("after", "meta.next")


class Book:
    """A source of pages by cursor that keeps a tape of what was asked."""

    def __init__(self, pages: dict[str | None, Any]) -> None:
        self.pages = pages
        self.tape: list[str | None] = []

    def __call__(self, query: Query) -> Answer:
        cursor = dict(query).get("after")
        self.tape.append(cursor)
        return Answer(self.pages[cursor], f"sha256:{cursor}", NOW)


def book(*cursors: str) -> Book:
    """A book whose pages follow each other by these cursors and then end."""
    asked = (None, *cursors)
    following = (*cursors, None)
    return Book({one: {"items": [one], "meta": {"next": then}} for one, then in zip(asked, following, strict=True)})


def test_every_page_comes_once_in_order_and_the_walk_ends() -> None:
    source = book("b", "c")
    walk = Walk(MODE, source)
    assert [(page.cursor, page.next) for page in walk] == [(None, "b"), ("b", "c"), ("c", None)]
    assert source.tape == [None, "b", "c"]
    assert list(walk) == []
    assert source.tape == [None, "b", "c"]


def test_a_walk_begins_behind_the_stored_cursor() -> None:
    source = book("b", "c")
    assert [page.cursor for page in Walk(MODE, source, "c")] == ["c"]


def test_a_page_that_was_read_in_part_is_asked_for_again() -> None:
    source = book("b", "c")
    walk = Walk(MODE, source)
    pages = iter(walk)
    next(pages)
    partly = next(pages)
    assert (partly.cursor, walk.cursor) == ("b", "b")
    del pages  # the body of the loop failed within this page
    assert [page.cursor for page in walk] == ["b", "c"]
    assert source.tape == [None, "b", "b", "c"]


def test_a_fetch_that_fails_leaves_the_cursor_where_it_was() -> None:
    source = book("b")
    page_b = source.pages.pop("b")
    walk = Walk(MODE, source)
    pages = iter(walk)
    next(pages)
    with pytest.raises(KeyError):
        next(pages)
    source.pages["b"] = page_b
    assert [page.cursor for page in walk] == ["b"]


@pytest.mark.parametrize("repeated", ["b", "c"])
def test_a_cursor_handed_out_twice_ends_the_walk_with_an_error(repeated: str) -> None:
    source = book("b", "c", "d")
    source.pages["c"]["meta"]["next"] = repeated
    with pytest.raises(Data, match="one cursor twice") as caught:
        list(Walk(MODE, source))
    assert source.tape == [None, "b", "c"]
    assert "requestParam" in caught.value.hint


def test_the_cursor_a_walk_began_with_counts_as_handed_out() -> None:
    source = book("b", "c")
    source.pages["c"]["meta"]["next"] = "b"
    with pytest.raises(Data, match="one cursor twice"):
        list(Walk(MODE, source, "b"))


@pytest.mark.parametrize("end", [{"next": None}, {"next": ""}, {}])
def test_the_last_page_is_told_by_null_empty_text_or_absence(end: dict[str, Any]) -> None:
    assert MODE.next({"meta": end}) is None


@pytest.mark.parametrize(("token", "cursor"), [("x", "x"), (0, "0"), (17, "17")])
def test_a_cursor_is_a_text_or_an_integer(token: Any, cursor: str) -> None:
    assert MODE.next({"meta": {"next": token}}) == cursor


@pytest.mark.parametrize("document", [[], {}, {"meta": None}, {"meta": []}, {"meta": {"next": True}}])
def test_an_answer_without_a_place_for_the_cursor_is_not_taken_for_the_last(document: Any) -> None:
    with pytest.raises(Data):
        MODE.next(document)


@pytest.mark.parametrize("token", [{}, [], 1.5, False])
def test_a_cursor_of_another_kind_is_an_error(token: Any) -> None:
    with pytest.raises(Data, match="neither a text nor an integer"):
        MODE.next({"meta": {"next": token}})


def test_without_pages_the_one_answer_is_the_last() -> None:
    source = Book({None: [1, 2]})
    assert [(page.document, page.next) for page in Walk(NoPages(), source)] == [([1, 2], None)]


def test_a_path_through_something_else_than_objects_finds_nothing() -> None:
    assert at({"a": {"b": 1}}, ["a", "b"]) == 1
    assert at({"a": [1]}, ["a", "b"]) is None
    assert at({"a": 1}, []) == {"a": 1}


@pytest.mark.slow
@given(st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=30), st.data())
def test_interrupted_anywhere_any_number_of_times_a_walk_delivers_every_page(
    cursors: list[str], data: st.DataObject
) -> None:
    source = book(*cursors)
    cursor: str | None = None
    delivered: list[str | None] = []
    finished = False
    for _ in range(len(cursors) + 1):
        length = data.draw(st.integers(1, 5))
        walk = Walk(MODE, source, cursor)
        for page, _step in zip(walk, range(length), strict=False):
            delivered.append(page.cursor)
            finished, cursor = page.next is None, page.next
        if finished:
            break
    assert (delivered, finished) == ([None, *cursors], True)
