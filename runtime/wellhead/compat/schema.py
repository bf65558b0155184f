"""What a change of a JSON Schema means to those who write values for it, and to those who read values that fit it.

A config schema is *written* for: what it accepted must go on being accepted, so narrowing breaks. A stream's schema is
*read* from: whoever reads its columns must not meet what could not come before, so widening breaks. What this module
cannot compare (`$ref`, `anyOf` and the like) counts as breaking, because the opposite is not proved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from wellhead.compat.change import Change, Path, Severity, words

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains")
_RESTRICTIONS = ("pattern", "format", "multipleOf", "uniqueItems", "contentEncoding", "contentMediaType")
_REMARKS = ("title", "description", "examples", "$comment", "$schema", "$id", "deprecated", "readOnly", "writeOnly")
_COMPARED = ("type", "properties", "required", "additionalProperties", "items", "enum", "const", "default")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is compared: whose values they are, what to call it, where it stands, and which stream it is of."""

    role: Literal["written", "read"]
    kind: str
    name: str
    place: Path
    stream: str = ""

    def inside(self, step: str, *place: str | int) -> Subject:
        """Return the subject of a part of this one."""
        return replace(self, name=f"{self.name}.{step}" if step else self.name, place=(*self.place, *place))

    def change(self, what: str, was: Any, now: Any, severity: Severity, sentence: str) -> Change:
        """Return a change of this subject; the sentence goes on after its name."""
        return Change(
            f"{self.kind}.{what}", self.place, was, now, severity, f"{self.name} {sentence}", stream=self.stream
        )

    def narrower(self) -> Severity:
        """Return how grave it is that fewer values fit."""
        return "major" if self.role == "written" else "minor"

    def wider(self) -> Severity:
        """Return how grave it is that more values fit."""
        return "minor" if self.role == "written" else "major"


def compare(was: Any, now: Any, subject: Subject) -> Iterator[Change]:
    """Tell every difference between two schemas; equal ones have none."""
    if was == now:
        return
    if not isinstance(was, dict) or not isinstance(now, dict):
        yield subject.change("rule", was, now, "major", f"had the schema {words(was)} and has {words(now)}")
        return
    yield from _types(was, now, subject)
    yield from _properties(was, now, subject)
    yield from _further_properties(was, now, subject)
    yield from _items(was, now, subject)
    yield from _values(was, now, subject)
    yield from _default(was, now, subject)
    yield from _bounds(was, now, subject)
    yield from _rest(was, now, subject)


def _types(was: Mapping[str, Any], now: Mapping[str, Any], subject: Subject) -> Iterator[Change]:
    before, after = _kinds(was), _kinds(now)
    if before == after:
        return
    told = f"was of type {words(before or ('any',))} and is of type {words(after or ('any',))}"
    # Without `type` every value fits.
    fits_more = not after or (bool(before) and before <= after)
    fits_less = not before or (bool(after) and after <= before)
    severity = subject.wider() if fits_more else subject.narrower() if fits_less else "major"
    yield subject.change("type", was.get("type"), now.get("type"), severity, told)


def _kinds(schema: Mapping[str, Any]) -> frozenset[str]:
    kind = schema.get("type")
    kinds = {kind} if isinstance(kind, str) else set(kind or ())
    return frozenset(kinds | {"integer"} if "number" in kinds else kinds)


def _properties(was: Mapping[str, Any], now: Mapping[str, Any], subject: Subject) -> Iterator[Change]:
    before, after = was.get("properties", {}), now.get("properties", {})
    needed, needs = set(was.get("required", ())), set(now.get("required", ()))
    for name in dict.fromkeys((*before, *after, *sorted(needed | needs))):
        inner = subject.inside(name, "properties", name)
        if name in before and name not in after:
            yield inner.change("removed", before[name], None, "major", "is gone")
        elif name in after and name not in before:
            missing = name in needs and not _has_default(after[name])
            if subject.role == "written" and missing:
                yield inner.change("required", None, after[name], "major", "is new, required, and has no default")
            else:
                yield inner.change("added", None, after[name], "minor", "is new")
        else:
            yield from compare(before.get(name, {}), after.get(name, {}), inner)
            yield from _required(name in needed, name in needs, after.get(name, {}), inner)


def _required(was: bool, now: bool, schema: Any, subject: Subject) -> Iterator[Change]:
    if was == now:
        return
    severity = subject.narrower() if now else subject.wider()
    if now and subject.role == "written" and _has_default(schema):
        severity = "minor"
    told = "was optional and is required" if now else "was required and may be missing"
    yield subject.change("required" if now else "optional", was, now, severity, told)


def _has_default(schema: Any) -> bool:
    return isinstance(schema, dict) and "default" in schema


def _further_properties(was: Mapping[str, Any], now: Mapping[str, Any], subject: Subject) -> Iterator[Change]:
    before, after = was.get("additionalProperties", True), now.get("additionalProperties", True)
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        yield from compare(before, after, subject.inside("*", "additionalProperties"))
        return
    opens = before is False or after is True
    # A reader who does not look for a column is not disturbed by it.
    severity = "minor" if subject.role == "read" else subject.wider() if opens else subject.narrower()
    told = "takes further properties" if opens else "no longer takes what it does not name"
    yield subject.change("further", before, after, severity, told)


def _items(was: Mapping[str, Any], now: Mapping[str, Any], subject: Subject) -> Iterator[Change]:
    if "items" in was or "items" in now:
        yield from compare(was.get("items", {}), now.get("items", {}), subject.inside("items", "items"))


def _values(was: Mapping[str, Any], now: Mapping[str, Any], subject: Subject) -> Iterator[Change]:
    before, after = _listed(was), _listed(now)
    if before == after:
        return
    if before is None or after is None:
        severity = subject.wider() if after is None else subject.narrower()
        told = "is no longer limited to a list of values" if after is None else "is limited to a list of values"
        yield subject.change("enum", was.get("enum"), now.get("enum"), severity, told)
        return
    if lost := sorted(before - after):
        yield subject.change("enum", lost, None, subject.narrower(), f"lost {words(lost)}")
    if new := sorted(after - before):
        # The column's type stays; a value more in it is what data does.
        yield subject.change("enum", None, new, "minor", f"gained {words(new)}")


def _listed(schema: Mapping[str, Any]) -> frozenset[str] | None:
    if "const" in schema:
        return frozenset({json.dumps(schema["const"], sort_keys=True)})
    if "enum" not in schema:
        return None
    return frozenset(json.dumps(value, sort_keys=True) for value in schema["enum"])


def _default(was: Mapping[str, Any], now: Mapping[str, Any], subject: Subject) -> Iterator[Change]:
    if was.get("default") == now.get("default") and ("default" in was) == ("default" in now):
        return
    told = f"had the default {words(was.get('default'))} and has {words(now.get('default'))}"
    # Whoever left it out gets another value without having touched anything.
    relied = subject.role == "written" and "default" in was
    severity: Severity = "major" if relied else "minor"
    yield subject.change("default", was.get("default"), now.get("default"), severity, told)


def _bounds(was: Mapping[str, Any], now: Mapping[str, Any], subject: Subject) -> Iterator[Change]:
    for word in (*_LOWER, *_UPPER, *_RESTRICTIONS):
        before, after = was.get(word), now.get(word)
        if before == after:
            continue
        severity: Severity
        if before is None or after is None:
            severity = subject.narrower() if before is None else subject.wider()
        elif word in _RESTRICTIONS:
            severity = "major"
        else:
            severity = subject.narrower() if (after > before) == (word in _LOWER) else subject.wider()
        told = f"had {word} {words(before)} and has {words(after)}"
        yield subject.change("format" if word == "format" else "bound", before, after, severity, told)


def _rest(was: Mapping[str, Any], now: Mapping[str, Any], subject: Subject) -> Iterator[Change]:
    known = {*_COMPARED, *_LOWER, *_UPPER, *_RESTRICTIONS}
    for word in dict.fromkeys((*was, *now)):
        if word in known or was.get(word) == now.get(word):
            continue
        if word in _REMARKS or word.startswith("x-"):
            yield subject.change("remark", was.get(word), now.get(word), "patch", f"has another {word}")
        else:
            yield subject.change("rule", was.get(word), now.get(word), "major", f"has another {word}")
