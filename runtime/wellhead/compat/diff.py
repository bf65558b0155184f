"""Every difference between two manifests, each with how much it asks of those who use the connector. Pure.

What has names (slots, logins, ways out, streams) is matched by name; every other value is judged by the rule of its
place in `RULES`. A value without a rule counts as major: that nobody has thought about a change does not make it
harmless (invariant 16).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

from pydantic import BaseModel
from semver import Version

from wellhead.compat import migration, schema
from wellhead.compat.change import SEVERITIES, Change, Path, Severity, words
from wellhead.compat.surface import TLS, covers_host
from wellhead.errors import ConfigurationError
from wellhead.manifest.model import (
    CLASSIFICATIONS,
    AuthMethod,
    Egress,
    Manifest,
    Slot,
    Stream,
    Variable,
)
from wellhead.manifest.versions import Range

Rule = Callable[[Any, Any], Severity]
Item = TypeVar("Item", bound=BaseModel)


def diff(was: Manifest, now: Manifest) -> tuple[Change, ...]:
    """Return every change from one manifest to another, the gravest first; the version itself is none.

    Equal manifests have no changes, and different ones have at least one.
    """
    found = list(chain.from_iterable(part(was, now) for part in _PARTS))
    if not found and was.model_copy(update={"metadata": now.metadata}) != now:
        found.append(Change("order", (), None, None, "patch", "the same is said in another order or form"))
    return tuple(sorted(found, key=lambda one: (-SEVERITIES.index(one.severity), [str(step) for step in one.place])))


# ---- rules of single values


def always(severity: Severity) -> Rule:
    """Judge every change alike."""
    return lambda was, now: severity  # noqa: ARG005


def by_order(order: Sequence[Any] | None = None, *, up: Severity, down: Severity) -> Rule:
    """Judge a change by its direction, in ``order`` or, without one, by size; None stands below everything."""

    def rule(was: Any, now: Any) -> Severity:
        if was is None or now is None:
            return up if was is None else down
        before, after = (was, now) if order is None else (order.index(was), order.index(now))
        return up if after > before else down

    return rule


def by_members(*, lost: Severity, gained: Severity) -> Rule:
    """Judge a list by what it lost and what it gained; another order alone is a patch."""

    def rule(was: Iterable[Any], now: Iterable[Any]) -> Severity:
        if set(was) - set(now):
            return lost
        return gained if set(now) - set(was) else "patch"

    return rule


def _host_range(was: str, now: str) -> Severity:
    """Compare two ranges at and just behind every version they name; between those neither changes its answer."""
    try:
        before, after = Range.parse(was), Range.parse(now)
    except ConfigurationError:
        # Which of the two cannot be read, and why, is for `lint` to say.
        return "major"
    named = {bound.version for one in (before, after) for part in one.alternatives for bound in part}
    finals = {version.finalize_version() for version in named} | {Version(0)}
    probes = named | finals | {version.bump_patch() for version in finals}
    if any(before.admits(probe) and not after.admits(probe) for probe in probes):
        return "major"
    return "minor" if any(after.admits(probe) and not before.admits(probe) for probe in probes) else "patch"


#: Place of a single value → its rule. A place that ends a dictionary of people's own names speaks for all of it.
RULES: Mapping[str, Rule] = {
    "api_version": always("major"),
    "kind": always("major"),
    "metadata.id": always("major"),
    "metadata.title": always("patch"),
    "metadata.summary": always("patch"),
    "metadata.publisher.name": always("minor"),
    "metadata.publisher.url": always("patch"),
    "metadata.publisher.contact": always("patch"),
    # Whether it may be used at all is a question for people again.
    "metadata.license": always("major"),
    "metadata.links": always("patch"),
    "metadata.icon": always("patch"),
    "taxonomy.type": always("major"),
    "taxonomy.category": always("patch"),
    "taxonomy.vendor": always("patch"),
    "taxonomy.product": always("minor"),
    "taxonomy.method": always("major"),
    "taxonomy.tags": always("patch"),
    "runtime.protocol.min": by_order(up="major", down="minor"),
    "runtime.protocol.max": by_order(up="minor", down="major"),
    "runtime.host": _host_range,
    "runtime.entrypoint": always("patch"),
    "runtime.platforms": by_members(lost="major", gained="minor"),
    "runtime.runners.docker": by_order(up="minor", down="major"),
    "runtime.runners.kubernetes": by_order(up="minor", down="major"),
    "runtime.runners.process": by_order(up="minor", down="major"),
    "runtime.sandbox.tmp_mib": by_order(up="minor", down="patch"),
    "runtime.sandbox.gvisor": by_order(up="minor", down="major"),
    "runtime.timeouts.start_s": always("patch"),
    "runtime.timeouts.silence_s": always("patch"),
    "runtime.timeouts.total_s": always("minor"),
    "runtime.timeouts.stop_grace_s": always("patch"),
    "capabilities.sync_modes": by_members(lost="major", gained="minor"),
    "capabilities.direction": always("major"),
    "capabilities.pagination": always("patch"),
    "capabilities.discover": always("minor"),
    # Rows of another kind come, or no longer come.
    "capabilities.deletes": always("major"),
    "capabilities.checkpoint.granularity": always("minor"),
    "capabilities.checkpoint.resumable": by_order(up="minor", down="major"),
    "capabilities.replay": by_order(("none", "redelivery", "position"), up="minor", down="major"),
    "capabilities.ack": always("minor"),
    "capabilities.parallel_units": always("minor"),
    "capabilities.stateless": always("major"),
    "capabilities.idempotent_reads": by_order(up="minor", down="major"),
    # The entries are compared with it filled in.
    "network.private_networks": always("patch"),
    "auth.default": always("minor"),
    "resources.memory_mib": by_order(up="minor", down="patch"),
    "resources.cpus": by_order(up="minor", down="patch"),
    "resources.pids": by_order(up="minor", down="patch"),
    "compliance.classification": always("minor"),
    "compliance.data_categories": by_members(lost="patch", gained="minor"),
    "compliance.residency": always("minor"),
    "compliance.retention_days": always("minor"),
    "compliance.terms": always("minor"),
    "compliance.reviewed": always("patch"),
    "compatibility.rollback_floor": by_order(up="minor", down="patch"),
    "compatibility.breaking": always("patch"),
    "support.level": always("minor"),
    "support.lifecycle": always("minor"),
    "support.owner": always("patch"),
    "support.deprecation": always("minor"),
}

#: Places whose parts have names and are compared by a function of their own.
NAMED = frozenset(
    {
        "metadata.version",
        "network.egress",
        "network.variables",
        "auth.methods",
        "secrets.slots",
        "config",
        "streams",
        "rate_limits",
        "errors",
        "compatibility.state",
    }
)

_METHOD_RULES: Mapping[str, Rule] = {
    "type": always("major"),
    "secrets": always("minor"),
    "scopes": always("minor"),
    "token_url": always("minor"),
    "placement": always("minor"),
    "deprecated": by_order(up="minor", down="patch"),
}
_SLOT_RULES: Mapping[str, Rule] = {
    "kind": always("major"),
    # What was struck from logs so far would appear in them.
    "sensitive": by_order(up="patch", down="major"),
    "required": by_order(up="major", down="minor"),
    "min_length": by_order(up="major", down="minor"),
    "redact_pattern": always("patch"),
    "description": always("patch"),
}
_EGRESS_RULES: Mapping[str, Rule] = {
    "protocol": always("minor"),
    "tls": by_order(TLS, up="minor", down="major"),
    "open": by_order(("operator", "manifest"), up="minor", down="major"),
    "private": by_order(up="minor", down="major"),
    "purpose": always("patch"),
    "required": by_order(up="major", down="minor"),
}
_STREAM_RULES: Mapping[str, Rule] = {
    "primary_key": always("major"),
    "sync_modes": by_members(lost="major", gained="minor"),
    "pagination": always("patch"),
    "classification": always("minor"),
}
_CURSOR_RULES: Mapping[str, Rule] = {
    "field": always("major"),
    "type": always("major"),
    "order": always("minor"),
    "lookback_s": always("minor"),
}
_PERSONAL_RULES: Mapping[str, Rule] = {
    "pii": always("minor"),
    "classification": always("minor"),
    "treat": always("minor"),
}
_RATE_RULES: Mapping[str, Rule] = {
    name: always("patch") for name in ("scope", "limit", "period_s", "burst", "concurrency")
}


def _single_values(was: Manifest, now: Manifest) -> Iterator[Change]:
    before, after = dict(_leaves(was)), dict(_leaves(now))
    for place in dict.fromkeys((*before, *after)):
        old, new = before.get(place), after.get(place)
        if old != new:
            rule = RULES.get(place, always("major"))
            higher = place == "compliance.classification" and _is_higher(old, new)
            severity = rule(old, new)
            path = tuple(place.split("."))
            yield Change(place, path, old, new, severity, _told(place, old, new), needs_approval=higher)


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, BaseModel) and place not in RULES:
        for name in type(value).model_fields:
            inner = f"{place}.{name}" if place else name
            if inner not in NAMED:
                yield from _leaves(getattr(value, name), inner)
    else:
        yield place, value


def _told(name: str, was: Any, now: Any) -> str:
    if isinstance(was, tuple) and isinstance(now, tuple) and not any(isinstance(x, BaseModel) for x in (*was, *now)):
        lost, gained = set(was) - set(now), set(now) - set(was)
        parts = [f"lost {words(lost)}"] * bool(lost) + [f"gained {words(gained)}"] * bool(gained)
        return f"{name} {' and '.join(parts) or 'has another order'}"
    if any(isinstance(value, BaseModel | dict | tuple) for value in (was, now)):
        return f"{name} is new" if was is None else f"{name} is gone" if now is None else f"{name} says something else"
    return f"{name} was {words(was)} and is {words(now)}"


def _is_higher(was: Any, now: Any) -> bool:
    return CLASSIFICATIONS.index(now) > CLASSIFICATIONS.index(was)


# ---- what has names


def _fields(
    was: BaseModel, now: BaseModel, rules: Mapping[str, Rule], kind: str, name: str, place: Path, stream: str = ""
) -> Iterator[Change]:
    """Compare two things of one name field by field; a field without a rule counts as major."""
    for field in type(now).model_fields:
        before, after = getattr(was, field), getattr(now, field)
        if before != after:
            severity = rules.get(field, always("major"))(before, after)
            told = _told(f"{name}: {field}", before, after)
            yield Change(f"{kind}.{field}", (*place, field), before, after, severity, told, stream=stream)


def _numbered(items: Iterable[Item], key: Callable[[Item], Hashable]) -> dict[tuple[Hashable, int], tuple[int, Item]]:
    """Return key and its how-manieth use → index and item, so that equal keys hide none of each other."""
    seen: Counter[Hashable] = Counter()
    found = {}
    for index, item in enumerate(items):
        found[key(item), seen[key(item)]] = (index, item)
        seen[key(item)] += 1
    return found


def _egress(was: Manifest, now: Manifest) -> Iterator[Change]:
    place: Path = ("network", "egress")
    before = _numbered(_with_private(was), lambda entry: (entry.host, str(entry.port)))
    after = _numbered(_with_private(now), lambda entry: (entry.host, str(entry.port)))
    for key, (_, entry) in before.items():
        if key not in after:
            yield Change("egress.removed", place, entry.host, None, "minor", f"no longer reaches {_way(entry)}")
    for key, (index, entry) in after.items():
        here = (*place, index)
        if key in before:
            old = before[key][1]
            for change in _fields(old, entry, _EGRESS_RULES, "egress", _way(entry), here):
                yield _weighed(change)
        else:
            yield _new_way(entry, [old for _, old in before.values()], here)


def _with_private(manifest: Manifest) -> Iterator[Egress]:
    default = manifest.network.private_networks == "with_operator_grant"
    for entry in manifest.network.egress:
        yield entry if entry.private is not None else entry.model_copy(update={"private": default})


def _way(entry: Egress) -> str:
    return f"{entry.host}:{entry.port}"


def _weighed(change: Change) -> Change:
    """Say that a tenant must agree where a known way lets more through."""
    looser = change.kind in ("egress.tls", "egress.open", "egress.private") and change.severity == "minor"
    return replace(change, needs_approval=looser)


def _new_way(entry: Egress, known: Sequence[Egress], place: Path) -> Change:
    same_port = [old for old in known if str(old.port) == str(entry.port)]
    covering = [
        old
        for old in same_port
        if covers_host(old.host, entry.host)
        and TLS.index(old.tls) >= TLS.index(entry.tls)
        and (bool(old.private) or not entry.private)
        and (old.open == "manifest" or entry.open == "operator")
    ]
    if covering:
        told = f"reaches {_way(entry)}, which {_way(covering[0])} covered"
        return Change("egress.narrowed", place, covering[0].host, entry.host, "minor", told)
    covered = [old for old in same_port if entry.host.startswith("*.") and covers_host(entry.host, old.host)]
    if covered:
        told = f"reaches all of {_way(entry)}, so far {_way(covered[0])}"
        return Change("egress.widened", place, covered[0].host, entry.host, "minor", told, needs_approval=True)
    if any(old.host == entry.host for old in known):
        told = f"reaches another port, {_way(entry)}"
        return Change("egress.port", place, None, _way(entry), "minor", told, needs_approval=True)
    return Change("egress.added", place, None, _way(entry), "minor", f"reaches {_way(entry)}", needs_approval=True)


def _variables(was: Manifest, now: Manifest) -> Iterator[Change]:
    before, after = was.network.variables, now.network.variables
    for name in dict.fromkeys((*before, *after)):
        place: Path = ("network", "variables", name)
        old, new = before.get(name), after.get(name)
        if old is None:
            yield Change("variable.added", place, None, name, "major", f"limits config.{name} in hosts")
        elif new is None:
            yield Change("variable.removed", place, name, None, "minor", f"no longer limits config.{name} in hosts")
        elif old != new:
            severity: Severity = "minor" if _still_admits(old, new) else "major"
            told = f"limits config.{name} in hosts otherwise"
            yield Change("variable", place, old.enum or old.pattern, new.enum or new.pattern, severity, told)


def _still_admits(was: Variable, now: Variable) -> bool:
    """Say whether every value that was allowed is allowed; between two patterns that is not known."""
    if was.pattern is not None:
        return False
    pattern = now.pattern
    return set(was.enum) <= set(now.enum) or (
        pattern is not None and all(re.fullmatch(pattern, value) for value in was.enum)
    )


def _methods(was: Manifest, now: Manifest) -> Iterator[Change]:
    place: Path = ("auth", "methods")
    scopes = {scope for method in was.auth.methods for scope in method.scopes}
    before, after = _numbered(was.auth.methods, _id), _numbered(now.auth.methods, _id)
    for key, (_, method) in before.items():
        if key not in after:
            yield Change("auth.removed", place, method.id, None, "major", f"login {method.id} is gone")
    for key, (index, method) in after.items():
        here = (*place, index)
        wider = sorted(set(method.scopes) - scopes)
        if key not in before:
            told = f"login {method.id} is new" + (f" and asks for {words(wider)}" if wider else "")
            yield Change("auth.added", here, None, method.id, "minor", told, needs_approval=bool(wider))
            continue
        old = before[key][1]
        for change in _fields(old, method, _METHOD_RULES, "auth", f"login {method.id}", here):
            yield _scoped(change, old, method, now) if change.kind in ("auth.scopes", "auth.secrets") else change


def _id(method: AuthMethod) -> str:
    return method.id


def _scoped(change: Change, was: AuthMethod, now: AuthMethod, manifest: Manifest) -> Change:
    """Weigh what a login gained: a scope must be agreed to; a slot matters where a connection has to fill it."""
    if change.kind == "auth.scopes":
        return replace(change, needs_approval=bool(set(now.scopes) - set(was.scopes)))
    gained, slots = set(now.secrets) - set(was.secrets), manifest.secrets.slots
    is_needed = any(slots[name].required for name in gained if name in slots)
    return replace(change, severity="major" if is_needed else "minor")


def _slots(was: Manifest, now: Manifest) -> Iterator[Change]:
    before, after = was.secrets.slots, now.secrets.slots
    for name in dict.fromkeys((*before, *after)):
        place: Path = ("secrets", "slots", name)
        old, new = before.get(name), after.get(name)
        if new is None:
            yield Change("slot.removed", place, name, None, "major", f"secret slot {name} is gone")
        elif old is None:
            yield _new_slot(name, new, place)
        else:
            yield from _fields(old, new, _SLOT_RULES, "slot", f"secret slot {name}", place)


def _new_slot(name: str, slot: Slot, place: Path) -> Change:
    severity: Severity = "major" if slot.required else "minor"
    told = f"secret slot {name} is new and {'required' if slot.required else 'optional'}"
    return Change("slot.added", place, None, name, severity, told)


def _config(was: Manifest, now: Manifest) -> Iterator[Change]:
    place: Path = ("config", "version")
    before, after = was.config.version, now.config.version
    if before != after:
        severity: Severity = "minor" if after > before else "major"
        told = f"config version was {before} and is {after}"
        yield Change("config.version", place, before, after, severity, told)
    yield from migration.migrations(was.config, now.config)
    steps = {(step.from_, step.to): step for step in now.config.migrations}
    way = [steps.get((version, version + 1)) for version in range(before, after)]
    if None in way:
        told = f"no migration leads from config version {before} to {after}"
        yield Change("config.migration.missing", ("config", "migrations"), before, after, "major", told)
    old = was.config.schema_
    subject = schema.Subject("written", "config.property", "config", ("config", "schema"))
    for step in way:
        if step is not None:
            old, told_of = migration.migrated(old, step, now.config)
            yield from told_of
    yield from schema.compare(old, now.config.schema_, subject)


def _streams(was: Manifest, now: Manifest) -> Iterator[Change]:
    before, after = _numbered(was.streams, _stream_key), _numbered(now.streams, _stream_key)
    patterns = [stream.pattern for stream in now.streams if stream.pattern is not None]
    for key, (_, stream) in before.items():
        if key not in after:
            name = _stream_name(stream)
            found = stream.name is not None and any(re.fullmatch(pattern, stream.name) for pattern in patterns)
            severity: Severity = "minor" if found else "major"
            told = f"stream {name} is no longer described, only found" if found else f"stream {name} is gone"
            yield Change("stream.removed", ("streams",), name, None, severity, told, stream=name)
    for key, (index, stream) in after.items():
        name = _stream_name(stream)
        if key in before:
            yield from _stream(before[key][1], stream, was, now, index)
        else:
            yield Change("stream.added", ("streams", index), None, name, "minor", f"stream {name} is new", stream=name)


def _stream_key(stream: Stream) -> tuple[str | None, str | None]:
    return stream.name, stream.pattern


def _stream_name(stream: Stream) -> str:
    return stream.name or stream.pattern or ""


def _stream(was: Stream, now: Stream, old: Manifest, new: Manifest, index: int) -> Iterator[Change]:
    name, place = _stream_name(now), ("streams", index)
    before, after = _bare(was), _bare(now)
    # A stream without a word of its own has the connector's; what the connector changed is told once, there.
    if was.sync_modes != now.sync_modes:
        before = before.model_copy(update={"sync_modes": was.sync_modes or old.capabilities.sync_modes})
        after = after.model_copy(update={"sync_modes": now.sync_modes or new.capabilities.sync_modes})
    if was.classification != now.classification:
        before = before.model_copy(update={"classification": was.classification or old.compliance.classification})
        after = after.model_copy(update={"classification": now.classification or new.compliance.classification})
    yield from _fields(before, after, _STREAM_RULES, "stream", f"stream {name}", place, name)
    yield from _cursor(was, now, name, place)
    yield from _personal(was, now, name, place)
    yield from _columns(was, now, name, place)


def _bare(stream: Stream) -> Stream:
    """Return the stream without the parts that have names of their own."""
    return stream.model_copy(update={"cursor": None, "fields": {}, "schema_": None})


def _cursor(was: Stream, now: Stream, name: str, place: Path) -> Iterator[Change]:
    here = (*place, "cursor")
    if was.cursor is not None and now.cursor is not None:
        yield from _fields(was.cursor, now.cursor, _CURSOR_RULES, "stream.cursor", f"stream {name}: cursor", here, name)
    elif was.cursor is not None:
        yield Change(
            "stream.cursor", here, was.cursor.field, None, "major", f"stream {name} has no cursor any more", stream=name
        )
    elif now.cursor is not None:
        yield Change(
            "stream.cursor", here, None, now.cursor.field, "minor", f"stream {name} has a cursor now", stream=name
        )


def _personal(was: Stream, now: Stream, name: str, place: Path) -> Iterator[Change]:
    for column in dict.fromkeys((*was.fields, *now.fields)):
        here = (*place, "fields", column)
        old, new = was.fields.get(column), now.fields.get(column)
        if old is None or new is None:
            told = f"{name}.{column} is {'no longer ' if new is None else ''}said to be about people"
            yield Change("stream.pii", here, old and old.pii, new and new.pii, "minor", told, stream=name)
        else:
            yield from _fields(old, new, _PERSONAL_RULES, "stream.pii", f"{name}.{column}", here, name)


def _columns(was: Stream, now: Stream, name: str, place: Path) -> Iterator[Change]:
    here = (*place, "schema")
    old, new = was.schema_, now.schema_
    if isinstance(old, dict) and isinstance(new, dict):
        yield from schema.compare(old, new, schema.Subject("read", "stream.column", name, here, name))
    elif old != new:
        # Of a manifest that was read without its folder only the file's name is known: nothing proves them the same.
        severity: Severity = "minor" if old is None else "major"
        told = f"stream {name}: its schema is " + ("gone" if new is None else "new" if old is None else "another")
        yield Change("stream.schema", here, words(old), words(new), severity, told, stream=name)


def _rate_limits(was: Manifest, now: Manifest) -> Iterator[Change]:
    before, after = _numbered(was.rate_limits, lambda one: one.id), _numbered(now.rate_limits, lambda one: one.id)
    for key in dict.fromkeys((*before, *after)):
        name = f"rate limit {key[0]}"
        if key not in before or key not in after:
            told = f"{name} is {'new' if key in after else 'gone'}"
            yield Change("rate_limit", ("rate_limits",), key in before, key in after, "patch", told)
        else:
            index, limit = after[key]
            yield from _fields(before[key][1], limit, _RATE_RULES, "rate_limit", name, ("rate_limits", index))


def _errors(was: Manifest, now: Manifest) -> Iterator[Change]:
    if was.errors != now.errors:
        told = "the source's answers mean something else"
        yield Change("errors", ("errors",), len(was.errors), len(now.errors), "patch", told)


def _state(was: Manifest, now: Manifest) -> Iterator[Change]:
    place: Path = ("compatibility", "state")
    before, after = was.compatibility.state, now.compatibility.state
    if before == after:
        return
    if lost := sorted({*before.reads, before.writes} - set(after.reads)):
        told = f"state {words(lost)} can no longer be read"
        if before.writes in lost:
            told += f", and {was.metadata.version} writes it: no connection can go on from where it is"
        yield Change("state.reads", (*place, "reads"), before.reads, after.reads, "major", told)
    elif before.reads != after.reads:
        yield Change(
            "state.reads", (*place, "reads"), before.reads, after.reads, "minor", f"reads state {words(after.reads)}"
        )
    if before.writes != after.writes:
        told = f"writes state {after.writes} instead of {before.writes}"
        if after.writes not in before.reads:
            told += f", which {was.metadata.version} cannot read: going back means an older checkpoint"
        yield Change("state.writes", (*place, "writes"), before.writes, after.writes, "minor", told)


_PARTS: tuple[Callable[[Manifest, Manifest], Iterator[Change]], ...] = (
    _single_values,
    _egress,
    _variables,
    _methods,
    _slots,
    _config,
    _streams,
    _rate_limits,
    _errors,
    _state,
)
