"""What is proved about patterns agrees with what `re` does."""

import re

import pytest

from wellhead.manifest import patterns


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


@pytest.mark.parametrize("pattern", ["[a-z]+", ".*", r"\w", "[^a]", "a*", "[a-z]{3}", "(?=a)a", r"(a)\1"])
def test_what_is_infinite_large_or_strange_is_not_proved(pattern: str) -> None:
    assert patterns.language(pattern) is None


@pytest.mark.parametrize("pattern", ["hk_[A-Za-z0-9]{20,}", "(a|b)c+", "(?:ab?)+"])
def test_plain_repeats_are_quick(pattern: str) -> None:
    assert patterns.is_quick(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a*b*)*", r"(a)\1+", "((x|y+)z)*", "(?=(a+)+)b"])
def test_a_repeat_in_a_repeat_is_not_quick(pattern: str) -> None:
    assert not patterns.is_quick(pattern)
