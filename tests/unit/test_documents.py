"""YAML files as values with places."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from wellhead import documents
from wellhead.errors import ConfigurationError


def test_what_older_yaml_took_for_something_else_stays_text() -> None:
    found = documents.parse(b"a: on\nb: NO\nc: 2024-01-01\nd: 0o17\n", "f.yaml")
    assert found.data == {"a": "on", "b": "NO", "c": "2024-01-01", "d": 15}


def test_a_field_knows_its_line_and_an_absent_one_its_nearest_parent() -> None:
    found = documents.parse(b"a:\n  - x: 1\n  - y: 2\n", "f.yaml")
    assert str(found.place(("a", 1, "y"))) == "f.yaml:3 (a.1.y)"
    assert str(found.place(("a", 1, "z"))) == "f.yaml:3 (a.1.z)"


@pytest.mark.parametrize(
    ("content", "line"), [(b"a: 1\na: 2\n", 2), (b"a: [1,\n", 2), (b"a: 1\n\tb: 2\n", 2)], ids=["twice", "open", "tab"]
)
def test_what_is_not_yaml_is_told_with_its_line(content: bytes, line: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        documents.parse(content, "f.yaml")
    assert caught.value.code == documents.NOT_YAML
    assert caught.value.place is not None
    assert caught.value.place.line == line


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        documents.parse(b"\xff\xfe\x00", "f.yaml")


@pytest.mark.slow
def test_aliases_that_multiply_are_refused() -> None:
    levels = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    levels += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    with pytest.raises(ConfigurationError) as caught:
        documents.parse("\n".join(levels).encode(), "f.yaml")
    assert caught.value.code == documents.TOO_LARGE


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"&x\na: 1\nb: *x\n", 1),
        (b"a: 1\nb: &x\n  c: *x\n", 2),
        (b"a: 1\nb: &x\n  - 1\n  - *x\n", 2),
        (b"&x [1, *x]\n", 1),
        (b"a: 1\nb: &x {c: {d: [*x]}}\n", 2),
        (b"b: &x !own {c: *x}\n", 1),
        (b"&x {<<: *x}\n", 1),
        (b"&x {? *x : 1}\n", 1),
    ],
)
def test_an_alias_of_what_it_stands_in_is_refused_where_that_begins(text: bytes, line: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        documents.parse(text, "f.yaml")
    assert caught.value.code == documents.TOO_DEEP
    assert caught.value.place is not None
    assert caught.value.place.line == line


def test_an_alias_beside_what_it_stands_for_is_taken() -> None:
    assert documents.parse(b"a: &x {b: 1}\nc: [*x, *x]\n", "f.yaml").data["c"] == [{"b": 1}, {"b": 1}]


@pytest.mark.parametrize("depth", [documents.MAX_DEPTH + 1, 700], ids=["ours", "the parser's"])
def test_values_that_nest_too_deeply_are_refused_and_the_deepest_allowed_are_not(depth: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        documents.parse(b"[" * depth + b"]" * depth, "f.yaml")
    assert caught.value.code == documents.TOO_DEEP
    deepest = documents.MAX_DEPTH
    assert documents.parse(b"[" * deepest + b"]" * deepest, "f.yaml").data != []


def test_no_more_is_read_of_a_file_than_tells_that_it_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f.yaml").write_bytes(b"#" * 2000)
    monkeypatch.setattr(documents, "MAX_BYTES", 1000)
    asked: list[int] = []
    monkeypatch.setattr(documents, "parse", lambda content, file: asked.append(len(content)))
    documents.read(tmp_path / "f.yaml")
    assert asked == [1001]


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = {"device": Path("/dev/zero"), "pipe": tmp_path / "pipe", "folder": tmp_path}[kind]
    with pytest.raises(ConfigurationError) as caught:
        documents.read(path)
    assert caught.value.code == documents.UNREADABLE


def test_a_folder_that_may_lack_holds_nothing_unless_a_link_leads_nowhere(tmp_path: Path) -> None:
    assert documents.listed(tmp_path / "gone" / "below", may_lack=True) == []
    (tmp_path / "shared").mkdir()
    (tmp_path / "good").symlink_to(tmp_path / "shared")
    assert documents.listed(tmp_path / "good" / "below", may_lack=True) == []
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for folder in (tmp_path / "link", tmp_path / "link" / "below"):
        with pytest.raises(ConfigurationError) as caught:
            documents.listed(folder, may_lack=True)
        assert caught.value.code == documents.NO_FOLDER


def test_the_documents_of_a_folder_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yaml", "c.yaml.example", "README.md"):
        (tmp_path / name).touch()
    assert [file.name for file in documents.listed(tmp_path)] == ["a.yaml", "b.yaml"]


def test_a_file_that_is_too_large_or_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        documents.parse(b"x" * (documents.MAX_BYTES + 1), "f.yaml")
    assert caught.value.code == documents.TOO_LARGE
    with pytest.raises(ConfigurationError) as caught:
        documents.read(tmp_path / "missing.yaml")
    assert caught.value.code == documents.UNREADABLE


class Thing(BaseModel, extra="forbid"):
    """A model of this test."""

    count: int


def test_a_single_mistake_is_the_message_itself() -> None:
    with pytest.raises(ConfigurationError) as caught:
        documents.validate(Thing, documents.parse(b"count: many\n", "f.yaml"))
    assert str(caught.value.place) == "f.yaml:1 (count)"
    assert caught.value.message.startswith("f.yaml is not a valid Thing: count: ")


def test_a_missing_and_an_unknown_key_are_both_named() -> None:
    with pytest.raises(ConfigurationError, match="2 mistakes") as caught:
        documents.validate(Thing, documents.parse(b"cuont: 1\n", "f.yaml"))
    assert [detail.split(": ", 1)[1] for detail in caught.value.details] == [
        "count is missing",
        "cuont is not a known key; did you mean 'count'?",
    ]


class Shelf(BaseModel, extra="forbid"):
    """A model that holds others."""

    things: tuple[Thing, ...] = ()
    best: Thing | None = None
    needed: tuple[Thing, ...] = Field((), min_length=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"thing: []\n", "thing is not a known key; did you mean 'things'?"),
        (b"things: [{count: 1, counts: 2}]\n", "things.0.counts is not a known key; did you mean 'count'?"),
        (b"best: {count: 1, things: 2}\n", "best.things is not a known key"),
    ],
)
def test_an_unknown_key_is_told_the_nearest_of_its_own_place(text: bytes, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        documents.validate(Shelf, documents.parse(text, "f.yaml"))
    assert caught.value.message == f"f.yaml is not a valid Shelf: {said}"


def test_a_wrong_item_is_not_told_again_as_a_list_that_is_too_short() -> None:
    with pytest.raises(ConfigurationError) as caught:
        documents.validate(Shelf, documents.parse(b"needed: [{cuont: 1, count: 1}]\n", "f.yaml"))
    assert [detail.split(": ", 1)[1] for detail in caught.value.details] == [
        "needed.0.cuont is not a known key; did you mean 'count'?"
    ]


def test_a_list_that_is_too_short_is_told() -> None:
    with pytest.raises(ConfigurationError, match="needed: tuple should have at least 1 item"):
        documents.validate(Shelf, documents.parse(b"needed: []\n", "f.yaml"))
