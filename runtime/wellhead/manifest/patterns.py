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

#: What Python's own reader of patterns raises: for a mistake, for a number no machine has, for too many parentheses.
UNREADABLE = (re.error, OverflowError, RecursionError)


def language(pattern: str, limit: int = 256) -> tuple[str, ...] | None:
    """Return every text ``pattern`` matches as a whole, or None if there may be more than ``limit``."""
    try:
        return tuple(sorted(_words(parser.parse(pattern), limit)))
    except (_NotFiniteError, *UNREADABLE):
        return None


def is_quick(pattern: str) -> bool:
    """Say whether matching takes time that grows gently with the text.

    Refused are back references, and a part of varying length inside a repeat of more than 8 rounds, unless it is the
    only one there and something that occurs nowhere else in the round says where this begins or ends, as in
    ``[a-z]+(-[a-z]+)*``. Repeats side by side stay, which take time that grows with a power of the text, such as
    ``[a-z]*[a-z]*!``, and alternatives that overlap stay undetected, which is why whoever uses such a pattern also
    bounds the text. What cannot be read is not quick, nor what is not known here.
    """
    try:
        return _quick(parser.parse(pattern), rounds=1)
    except UNREADABLE:
        return False


#: Rounds of a repeat that count as few: each may read its part of the text in as many ways as this is long.
_FEW = 8
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT)
_ASSERTIONS = (op.ASSERT, op.ASSERT_NOT)
#: What matches one character or none, in one way.
_PLAIN = (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN, op.AT)
_CATEGORIES = {
    op.CATEGORY_DIGIT: r"\d",
    op.CATEGORY_NOT_DIGIT: r"\D",
    op.CATEGORY_SPACE: r"\s",
    op.CATEGORY_NOT_SPACE: r"\S",
    op.CATEGORY_WORD: r"\w",
    op.CATEGORY_NOT_WORD: r"\W",
}


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


def _quick(items: Iterable[Any], *, rounds: int) -> bool:
    for kind, argument in items:
        if kind is op.BRANCH:
            if not all(_quick(branch, rounds=rounds) for branch in argument[1]):
                return False
        elif kind is op.SUBPATTERN:
            if not _quick(argument[3], rounds=rounds):
                return False
        elif kind in _REPEATS:
            low, high, inner = argument
            if rounds > _FEW and low != high:
                return False
            if not _quick(inner, rounds=rounds if _is_delimited(inner) else rounds * int(high)):
                return False
        elif kind in _ASSERTIONS:
            if not _quick(argument[1], rounds=rounds):
                return False
        elif kind not in _PLAIN:
            return False
    return True


def _is_delimited(items: Any) -> bool:
    """Say whether each round of a repeat begins or ends with what occurs nowhere else in it, and has one reading."""
    parts = list(items)
    while len(parts) == 1 and parts[0][0] is op.SUBPATTERN:
        parts = list(parts[0][1][3])
    return len(parts) > 1 and any(
        all(not _takes(rest, char) for char in _marks(*mark)) and _varying(rest) <= 1
        for mark, rest in ((parts[0], parts[1:]), (parts[-1], parts[:-1]))
        if _marks(*mark)
    )


def _varying(items: Iterable[Any]) -> int:
    """Count the parts of varying length: where there is one, how long the whole is says how long that part is.

    One that holds another counts as two, and so does what is not understood.
    """
    count = 0
    for kind, argument in items:
        if kind is op.SUBPATTERN:
            count += _varying(argument[3])
        elif kind is op.BRANCH:
            count += 2 if any(_varying(branch) for branch in argument[1]) else 1
        elif kind in _REPEATS:
            low, high, inner = argument
            count += 2 if _varying(inner) else int(low != high)
        elif kind not in _PLAIN:
            count += 2
    return count


def _marks(kind: Any, argument: Any) -> set[str]:
    """Return every character that one mandatory part stands for, in any case; none where it stands for others too."""
    if kind is op.LITERAL:
        listed = {chr(argument)}
    elif kind is op.IN and all(inner is op.LITERAL for inner, _ in argument):
        listed = {chr(value) for _, value in argument}
    else:
        return set()
    return {form for char in listed for form in (char, char.lower(), char.upper(), char.casefold())}


def _takes(items: Iterable[Any], char: str) -> bool:
    """Say whether a part of these can match ``char``; what is not understood can."""
    return any(_one_takes(kind, argument, char) for kind, argument in items)


def _one_takes(kind: Any, argument: Any, char: str) -> bool:
    if kind is op.LITERAL:
        return chr(argument).casefold() == char.casefold()
    if kind is op.NOT_LITERAL:
        return chr(argument) != char
    if kind is op.IN:
        inside = any(_holds(inner, value, char) for inner, value in argument if inner is not op.NEGATE)
        return not inside if argument[0][0] is op.NEGATE else inside
    if kind is op.BRANCH:
        return any(_takes(branch, char) for branch in argument[1])
    if kind is op.SUBPATTERN:
        return _takes(argument[3], char)
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
        return _takes(argument[2], char)
    return kind is not op.AT


def _holds(kind: Any, value: Any, char: str) -> bool:
    if kind is op.LITERAL:
        return chr(value).casefold() == char.casefold()
    if kind is op.RANGE:
        return any(value[0] <= ord(form) <= value[1] for form in (char, char.lower(), char.upper()) if len(form) == 1)
    if kind is op.CATEGORY and value in _CATEGORIES:
        return re.match(_CATEGORIES[value], char) is not None
    return True
