"""The family of errors: what each class asks of whoever catches it."""

from __future__ import annotations

import pytest

from wellhead import errors

CODE = errors.Code("WH-TST-001", "A test's own.")


@pytest.mark.parametrize(
    ("kind", "exit_code", "category"),
    [
        (errors.TransientError, 75, "TRANSIENT"),
        (errors.ThrottledError, 75, "TRANSIENT"),
        (errors.ConfigurationError, 78, "CONFIGURATION"),
        (errors.AuthError, 77, "CONFIGURATION"),
        (errors.RefusedError, 76, "CONFIGURATION"),
        (errors.UsageError, 2, "CONFIGURATION"),
        (errors.DataError, 65, "DATA"),
        (errors.FatalError, 70, "FATAL"),
    ],
)
def test_each_class_has_its_exit_code(kind: type[errors.WellheadError], exit_code: int, category: str) -> None:
    error = kind("said", code=CODE, hint="mend")
    assert (error.exit_code, error.category, error.message, error.hint, str(error.code)) == (
        exit_code,
        category,
        "said",
        "mend",
        "WH-TST-001",
    )


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (errors.Place("f.yaml", 3, "a.b"), "f.yaml:3 (a.b)"),
        (errors.Place("f.yaml"), "f.yaml"),
        (errors.Place(None, None, "a.b"), "a.b"),
    ],
)
def test_a_place_reads_as_an_editor_takes_it(place: errors.Place, text: str) -> None:
    assert str(place) == text


def test_a_count_is_told_in_the_number_it_has() -> None:
    assert [errors.counted(number, "row") for number in (0, 1, 2, 12345)] == [
        "0 rows",
        "1 row",
        "2 rows",
        "12,345 rows",
    ]
