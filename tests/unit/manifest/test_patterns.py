"""What is proved about patterns agrees with what `re` does."""

import re

import pytest

from wellhead.manifest import patterns

UNREADABLE = ["(", "a{99999999999}", "(" * 2000 + ")" * 2000]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("eu|us", ("eu", "us")),
        ("^(eu|us)-[12]$", ("eu-1", "eu-2", "us-1", "us-2")),
        ("ap(-south)?", ("ap", "ap-south")),
        ("a{1,3}", ("a", "aa", "aaa")),
    ],
)
def test_a_finite_language_is_listed(pattern: str, words: tuple[str, ...]) -> None:
    assert patterns.language(pattern) == words
    assert all(re.fullmatch(pattern, word) for word in words)


@pytest.mark.parametrize("pattern", ["[a-z]+", ".*", r"\w", "[^a]", "a*", "[a-z]{3}", "(?=a)a", r"(a)\1", *UNREADABLE])
def test_what_is_infinite_large_or_strange_is_not_proved(pattern: str) -> None:
    assert patterns.language(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "hk_[A-Za-z0-9]{20,}",
        "(a|b)c+",
        "(?:ab?)+",
        "^[a-z0-9]+(-[a-z0-9]+)*$",
        r"^[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*$",
        r"(?:\w+,)*\w+",
        "([a-z]{3})+",
        "(?:[.:][0-9](b|c)*)*",
        "^[^,]+(,[^,]+)*$",
        "^v[0-9]+(?:[.][0-9]+){0,8}$",
        "[a-z]*[a-z]*!",
    ],
)
def test_plain_repeats_are_quick(pattern: str) -> None:
    assert patterns.is_quick(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a*b*)*",
        r"(a)\1+",
        "((x|y+)xz?)*",
        "(?=(a+)+)b",
        "([a-z]{1,9})+$",
        "(-[a-z-]+)*",
        "(-?[a-z]+)*",
        "(a[A-Z]+)*",
        r"(_\w+)*",
        "(-[^a]+)*",
        "(-([a-z]+)*)*",
        "(-.+)*",
        r"tok(?:_[A-Za-z0-9]+[0-9a-z]*)+=",
        "(-a*a*)*!",
        "(?:[.:][0-9]+(b|c)*)*",
        "(-(a|a+))*!",
        "(-(a+){2})*!",
        "(a+){1,99}!",
        "((a+){1,8}){1,8}!",
        "(?:-(?:a?){20})*!",
        "(?:a?){20}!",
        "(aa?)*!",
        "(a?b?)*!",
        "(?>(a+)+)b",
        "(-[^a-z]+)*",
        "(-[^,]+)*",
        "(-(?=a)[a-c]+)*",
        *UNREADABLE,
    ],
)
def test_a_repeat_in_a_repeat_is_not_quick(pattern: str) -> None:
    assert not patterns.is_quick(pattern)
