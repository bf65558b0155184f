"""The pages people write agree with the tree: links lead somewhere, numbers and targets exist."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from scripts import changelog
from tests.architecture.source import ROOT, tracked, tracked_text

PAGES = [path for path in tracked() if path.suffix == ".md"]
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_every_target_a_page_names_is_a_target() -> None:
    named = {
        target
        for path, text in tracked_text()
        if path.suffix == ".md"
        for target in re.findall(r"`make ([a-z0-9-]+)", text)
    }
    declared = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
    assert named - declared == set()


def test_every_target_is_phony_and_says_what_it_does() -> None:
    # A folder of a target's name (proto, tests) would make the target do nothing.
    declared = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
    assert declared == set(re.findall(r"^\.PHONY: ([a-z0-9-]+)$", MAKEFILE, re.MULTILINE))
    assert declared == set(re.findall(r"^([a-z0-9-]+):.*## .", MAKEFILE, re.MULTILINE))


def test_every_script_a_target_calls_is_there() -> None:
    assert [name for name in re.findall(r"scripts/[a-z-]+\.(?:sh|py)", MAKEFILE) if not (ROOT / name).is_file()] == []


def test_invariants_are_numbered_without_a_gap() -> None:
    numbers = re.findall(r"^(\d+)\. \*\*", (ROOT / "INVARIANTS.md").read_text(), re.MULTILINE)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


def test_every_invariant_the_code_cites_exists_and_each_is_cited() -> None:
    declared = set(re.findall(r"^(\d+)\. \*\*", (ROOT / "INVARIANTS.md").read_text(), re.MULTILINE))
    cited = {
        number
        for path, text in tracked_text()
        if path.suffix == ".py" and path.parts[0] in {"runtime", "sdk"}
        for number in re.findall(r"[Ii]nvariant (\d+)", text)
    }
    assert cited == declared


def test_decisions_are_numbered_without_a_gap_and_have_one_form() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [path.name[:4] for path in decisions] == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text()
        parts = re.findall(r"^\*\*(Context|Decision|Consequences|What would change our mind)\.\*\*", text, re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequences", "What would change our mind"], path.name
        assert text.startswith(f"# {path.name[:4]} "), path.name


def test_a_changelog_puts_each_fragment_under_its_kind() -> None:
    fragments = {
        "b.fixed.md": "It was\nmended.\n",
        "a.breaking.md": "It was renamed.\n",
        "c.fixed.md": "- So was\nthis - and that.\n- And that.\n",
    }
    assert changelog.assemble(fragments, "1.2.0", date(2030, 1, 2)) == (
        "## 1.2.0 (2030-01-02)\n\n### Breaking\n\n- It was renamed.\n\n### Fixed\n\n"
        "- It was mended.\n- So was this - and that.\n- And that.\n"
    )


@pytest.mark.parametrize("name", ["a.md", "a.novel.md", "a.fixed.txt"])
def test_a_fragment_without_a_known_kind_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(name)):
        changelog.assemble({name: "Text."}, "1.0.0", date(2030, 1, 2))


def test_the_fragments_that_wait_can_be_assembled() -> None:
    fragments = {path.name: path.read_text() for path in (ROOT / "changelog.d").glob("*.md")}
    made = changelog.assemble(fragments, "0.0.0", date(2030, 1, 2))
    assert made.count("\n- ") >= len(fragments)
    assert "- - " not in made
