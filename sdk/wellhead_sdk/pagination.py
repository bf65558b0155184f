"""Walking a source page by page without skipping, repeating or ending silently.

A walk holds one explicit cursor: the position of the page in hand. It moves only when the body of the loop has finished
with that page, so a page that was read in part is asked for again by the next loop, and a state stored from `Page.next`
resumes exactly behind it.

    state = request.cursor or {"cursor": START, "complete": False}
    if not state["complete"]:
        for page in Walk(CursorPages("cursor", "meta.next"), fetch, state["cursor"]):
            out.emit(page.document["records"], raw=page.raw_ref, read_at=page.read_at)
            out.checkpoint({"cursor": page.next, "complete": page.next is None})

`complete` tells a walk that is over from one that has not begun: both are without a cursor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from wellhead_sdk.errors import Data, counted

#: The cursor of the first page.
START: None = None
Query = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One page as the source sent it: decoded JSON with exact decimals, and what is kept of its bytes."""

    document: Any
    raw_ref: str
    read_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """An answer and its place in the walk: ``cursor`` asked for it, ``next`` asks for the one behind it."""

    document: Any
    raw_ref: str
    read_at: datetime
    cursor: str | None
    next: str | None


class Mode(Protocol):
    """A way of paging: how a cursor is sent and where the next one stands."""

    def query(self, cursor: str | None) -> Query:
        """Return the parameters that ask for the page at ``cursor``."""
        ...

    def next(self, document: Any) -> str | None:
        """Return the cursor behind this page, None behind the last."""
        ...


@dataclass(frozen=True, slots=True)
class NoPages:
    """Mode `none`: one answer holds everything."""

    def query(self, cursor: str | None) -> Query:  # noqa: ARG002 - as every mode has it
        """Return nothing."""
        return ()

    def next(self, document: Any) -> str | None:  # noqa: ARG002
        """Return None: the only page is the last."""
        return None


@dataclass(frozen=True, slots=True)
class CursorPages:
    """Mode `cursor`: the source hands out an opaque token for the page behind each page.

    ``response_field`` is a dotted path. The last page is told by a null, an empty text or an absent last key; an absent
    parent is not the end but another answer than the one expected.
    """

    request_param: str
    response_field: str

    def query(self, cursor: str | None) -> Query:
        """Return the cursor's parameter; none for the first page."""
        return () if cursor is None else ((self.request_param, cursor),)

    def next(self, document: Any) -> str | None:
        """Return the token of the page behind this one.

        Raises:
            Data: the answer has no place for a cursor, or something else than a text or an integer stands there.
        """
        *parents, last = self.response_field.split(".")
        holder = at(document, parents)
        if not isinstance(holder, dict):
            raise Data(
                f"the answer has no object at {'.'.join(parents) or 'its top'}, where the cursor "
                f"{self.response_field} should stand",
                hint="check pagination.responseField against an answer of the source",
            )
        match holder.get(last):
            case None | "":
                return None
            case bool():
                pass
            case str() as token:
                return token
            case int() as token:
                return str(token)
        raise Data(
            f"the cursor {self.response_field} is neither a text nor an integer",
            hint="check pagination.responseField against an answer of the source",
        )


class Walk:
    """An iterator over pages with one explicit cursor; see the module's text."""

    def __init__(self, mode: Mode, fetch: Callable[[Query], Answer], cursor: str | None = START) -> None:
        """Stand before the page at ``cursor``; nothing is fetched yet."""
        self._mode = mode
        self._fetch = fetch
        self._cursor = cursor
        self._finished = False
        #: Eight bytes of each cursor that was asked for: a million pages cost some 60 MB at most.
        self._asked = {_digest(cursor)} if cursor is not None else set()

    @property
    def cursor(self) -> str | None:
        """The position of the page in hand, None for the first page."""
        return self._cursor

    def __iter__(self) -> Iterator[Page]:
        """Yield pages, moving on when the loop's body comes back for more.

        A body that raises leaves the cursor where it was: a new loop fetches the same page again. After the last page
        there is nothing more, however often one asks.

        Raises:
            Data: the source handed out a cursor for the second time, so the walk would never end.
        """
        while not self._finished:
            answer = self._fetch(self._mode.query(self._cursor))
            following = self._mode.next(answer.document)
            if following is not None and _digest(following) in self._asked:
                asked = counted(len(self._asked), "cursor")
                raise Data(
                    f"the source handed out one cursor twice after {asked}: paging would go round in a circle",
                    hint="check pagination.requestParam: a source that does not know it answers the first page again",
                )
            yield Page(answer.document, answer.raw_ref, answer.read_at, self._cursor, following)
            self._advance(following)

    def _advance(self, following: str | None) -> None:
        if following is None:
            self._finished = True
            return
        self._asked.add(_digest(following))
        self._cursor = following


def at(document: Any, path: list[str]) -> Any:
    """Return what stands at a path of object keys, None where any of them is missing."""
    for key in path:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def _digest(cursor: str) -> int:
    return int.from_bytes(hashlib.blake2b(cursor.encode(), digest_size=8).digest())
