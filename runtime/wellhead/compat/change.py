"""One difference between two releases, and how much it asks of those who use them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["patch", "minor", "major"]
#: Mildest first.
SEVERITIES: tuple[Severity, ...] = ("patch", "minor", "major")

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        kind: what sort of change, dotted: ``config.property.removed``.
        place: where it stands in the newer manifest; what is gone is placed where it was missed.
        was: the value before; None where there was none.
        now: the value now; None where it is gone.
        severity: major if a connection that works may stop working or tables may change their meaning, minor if
            something is new, patch if nobody has to know.
        needs_approval: the tenant has to agree before the release may be used, however small the version step.
        sentence: the change in words, without a full stop.
        stream: name or pattern of the stream concerned; empty where it is not about one.
    """

    kind: str
    place: Path
    was: Any
    now: Any
    severity: Severity
    sentence: str
    needs_approval: bool = False
    stream: str = ""


def worst(severities: Iterable[Severity]) -> Severity | None:
    """Return the gravest, or None where there is none."""
    return max(severities, key=SEVERITIES.index, default=None)


def words(value: Any) -> str:
    """Return a value as a sentence shows it: short, texts bare."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case list() | tuple() | set() | frozenset():
            return ", ".join(sorted(map(str, value))) or "none"
        case _:
            text = str(value)
            return text if len(text) <= 80 else f"{text[:77]}…"
