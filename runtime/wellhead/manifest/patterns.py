"""What can be proved about a regular expression without running it: that its language is finite, that it is quick.

Reads Python's own parse of the pattern; what this module does not know is not proved.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any


def language(pattern: str, limit: int = 256) -> tuple[str, ...] | None:
    """Return every text ``pattern`` matches as a whole, or None if there may be more than ``limit``."""
    try:
        return tuple(sorted(_words(parser.parse(pattern), limit)))
    except (_NotFiniteError, re.error):
        return None


def is_quick(pattern: str) -> bool:
    """Say whether matching takes time that grows gently with the text.

    Refused are an unbounded repeat inside another, and back references; a repeat of alternatives that overlap stays
    undetected, which is why whoever uses such a pattern also bounds the text.
    """
    return _quick(parser.parse(pattern), inside_repeat=False)


class _NotFiniteError(Exception):
    """The language is infinite, too large, or not understood."""


def _words(items: Iterable[Any], limit: int) -> set[str]:
    words = {""}
    for kind, argument in items:
        words = {head + tail for head, tail in product(words, _one(kind, argument, limit))}
        if len(words) > limit:
            raise _NotFiniteError
    return words


def _one(kind: Any, argument: Any, limit: int) -> set[str]:
    if kind is op.LITERAL:
        return {chr(argument)}
    if kind is op.AT and argument in (op.AT_BEGINNING, op.AT_BEGINNING_STRING, op.AT_END, op.AT_END_STRING):
        return {""}
    if kind is op.IN:
        return _set(argument, limit)
    if kind is op.BRANCH:
        return set().union(*(_words(branch, limit) for branch in argument[1]))
    if kind is op.SUBPATTERN:
        return _words(argument[3], limit)
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
        low, high, inner = argument
        if high is op.MAXREPEAT or high > limit:
            raise _NotFiniteError
        words = _words(inner, limit)
        found: set[str] = set()
        for times in range(low, high + 1):
            if len(words) ** times > limit:
                raise _NotFiniteError
            found |= {"".join(parts) for parts in product(words, repeat=times)}
        return found
    raise _NotFiniteError


def _set(argument: Any, limit: int) -> set[str]:
    found: set[str] = set()
    for kind, value in argument:
        if kind is op.LITERAL:
            found.add(chr(value))
        elif kind is op.RANGE and value[1] - value[0] < limit:
            found |= {chr(code) for code in range(value[0], value[1] + 1)}
        else:
            raise _NotFiniteError
    return found


def _quick(items: Iterable[Any], *, inside_repeat: bool) -> bool:
    for kind, argument in items:
        if kind in (op.GROUPREF, op.GROUPREF_EXISTS):
            return False
        if kind is op.BRANCH:
            if not all(_quick(branch, inside_repeat=inside_repeat) for branch in argument[1]):
                return False
        elif kind is op.SUBPATTERN:
            if not _quick(argument[3], inside_repeat=inside_repeat):
                return False
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            unbounded = argument[1] is op.MAXREPEAT
            if unbounded and inside_repeat:
                return False
            if not _quick(argument[2], inside_repeat=inside_repeat or unbounded):
                return False
        elif kind in (op.ASSERT, op.ASSERT_NOT) and not _quick(argument[1], inside_repeat=inside_repeat):
            return False
    return True
