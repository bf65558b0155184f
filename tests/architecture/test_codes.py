"""The codes of errors: what a user quotes in a question, and what the reference explains."""

from __future__ import annotations

import re
from collections import Counter

from scripts import reference

AREAS = {
    "CAT": "catalog",
    "CFG": "configuration",
    "CLI": "command line",
    "CMP": "compatibility",
    "DOC": "documents",
    "EGR": "egress",
    "ENG": "engine",
    "IMG": "images",
    "MAN": "manifest",
    "POL": "policies",
    "PRO": "profiles",
    "REG": "registry",
    "RUN": "runs",
    "SEC": "secrets",
    "SES": "session",
    "SNK": "sinks",
}


def test_every_code_is_declared_once() -> None:
    counts = Counter(code.name for code in reference.codes())
    assert {name: count for name, count in counts.items() if count > 1} == {}


def test_every_code_names_its_area() -> None:
    wrong = [
        code.name
        for code in reference.codes()
        if not re.fullmatch(r"WH-[A-Z]{3}-\d{3}", code.name) or code.name[3:6] not in AREAS
    ]
    assert wrong == []


def test_every_meaning_is_a_sentence() -> None:
    assert [code.name for code in reference.codes() if not re.fullmatch(r"[A-Za-z$].{10,}\.", code.meaning)] == []


def test_the_project_declares_codes_at_all() -> None:
    assert len(reference.codes()) > 50


def test_every_code_is_raised_somewhere() -> None:
    assert [code.name for code in reference.codes() if code.uses == 0] == []
