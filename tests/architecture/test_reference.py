"""The pages that are made from the program are the ones the program makes today."""

from __future__ import annotations

import pytest

from scripts import guards, reference
from tests.architecture.source import ROOT


@pytest.mark.parametrize("page", sorted(reference.PAGES))
def test_a_page_of_the_reference_is_fresh(page: str) -> None:
    assert (ROOT / "docs" / "reference" / page).read_text() == reference.PAGES[page](), "mend: make docs"


def test_the_table_of_guards_is_fresh() -> None:
    assert (ROOT / guards.TABLE).read_text() == guards.table(guards.load()), "mend: make docs"
