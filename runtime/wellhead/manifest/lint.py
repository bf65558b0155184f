"""Whether the sections of a manifest agree with each other; what a release must pass before it is signed.

Each rule is one generator over the loaded manifest; `RULES` is the list. The shape (unknown keys, types) was settled by
`load`. What depends on the previous release, such as the version bump, is not judged here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from semver import Version

from wellhead import addresses
from wellhead.errors import Code, ConfigurationError, Place
from wellhead.manifest import egress, patterns
from wellhead.manifest.load import LoadedManifest
from wellhead.manifest.migrate import written
from wellhead.manifest.model import CLASSIFICATIONS, Classification, Config, Egress, Manifest, Migration, parameter
from wellhead.manifest.versions import Range
from wellhead.telemetry import redact

OPEN_VARIABLE = Code("WH-MAN-001", "A ${config.x} in an egress host is not closed.")
WILDCARD = Code("WH-MAN-002", "A wildcard stands where none may.")
UNKNOWN_PARAMETER = Code("WH-MAN-003", "Something refers to a config parameter that the schema does not have.")
SLOT_UNUSED = Code("WH-MAN-004", "A secret slot is used by no authentication method.")
SLOT_UNKNOWN = Code("WH-MAN-005", "An authentication method uses a slot that does not exist.")
AUTH = Code("WH-MAN-006", "The authentication methods contradict each other.")
TOO_HIGH = Code("WH-MAN-007", "Something is classified higher than its connector.")
SYNC_MODE = Code("WH-MAN-008", "A stream's reading modes do not fit.")
DUPLICATE = Code("WH-MAN-009", "Two things have one name.")
CONFIG_SCHEMA = Code("WH-MAN-010", "The config schema is not usable.")
SECRET_IN_CONFIG = Code("WH-MAN-011", "A config parameter looks like a secret.")
STATE = Code("WH-MAN-012", "The checkpoint formats contradict each other.")
VERSION_ORDER = Code("WH-MAN-013", "A version stands where it cannot.")
HOST_RANGE = Code("WH-MAN-014", "runtime.host is not a version range.")
NO_TLS = Code("WH-MAN-015", "An entry asks for a TLS protocol without TLS.")
TYPE_RULE = Code("WH-MAN-016", "The manifest does not fit its type.")
SLOW_PATTERN = Code("WH-MAN-017", "A pattern may take very long.")
LIFECYCLE = Code("WH-MAN-018", "The lifecycle contradicts the deprecation.")
MIGRATIONS = Code("WH-MAN-019", "The config's migrations do not lead from each version to the next.")
NOT_IN_EGRESS = Code("WH-MAN-020", "A URL names a host that no egress entry opens.")
UNUSED_VARIABLE = Code("WH-MAN-021", "A variable is used nowhere.")
NOT_REVIEWED = Code("WH-MAN-022", "A certified connector has no review.")
STREAM_SCHEMA = Code("WH-MAN-141", "A stream's schema is not usable.")
NOT_PLAIN = Code("WH-MAN-023", "The release's id or version is not on a line of its own.")
MIGRATED = Code("WH-MAN-024", "A migration of the config cannot do what it says.")
EMPTY_PATTERN = Code("WH-MAN-025", "A pattern finds what is empty.")

_SECRET_WORDS = ("password", "passwd", "secret", "token", "api_key", "apikey", "private_key", "credential")
#: Keys of a JSON Schema under which names stand, each with a schema of its own, and those under which values stand.
_OF_NAMES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_OF_VALUES = ("const", "default", "enum", "examples")
_TLS_PROTOCOLS = ("https", "wss", "ldaps", "ftps", "amqps", "rediss")

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement; an ``error`` keeps the release from being published, a ``warning`` does not."""

    code: Code
    severity: Literal["error", "warning"]
    place: Place
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Found:
    code: Code
    path: Path
    message: str
    hint: str
    severity: Literal["error", "warning"] = "error"


def lint(loaded: LoadedManifest) -> list[Finding]:
    """Return everything that is wrong with a manifest, in the order of its lines."""
    found = [*_plain(loaded), *(item for rule in RULES for item in rule(loaded.manifest))]
    findings = [
        Finding(item.code, item.severity, loaded.document.place(item.path), item.message, item.hint) for item in found
    ]
    return sorted(findings, key=lambda finding: (finding.place.line or 0, finding.code.name, finding.message))


def _plain(loaded: LoadedManifest) -> Iterator[_Found]:
    """Find an id or version the connector could not tell: inside its image these lines are read without a YAML library.

    The reader is `wellhead_sdk.serve`; an image it cannot read the release of does not come up.
    """
    lines = loaded.document.content.decode("utf-8", "replace").splitlines()
    for name in ("id", "version"):
        path: Path = ("metadata", name)
        line = loaded.document.place(path).line or 0
        value = re.escape(getattr(loaded.manifest.metadata, name))
        said = re.compile(rf"[ ]+{name}:[ \t]+(?:\"{value}\"|'{value}'|{value})[ \t]*(?:[ \t]#.*)?")
        if not 0 < line <= len(lines) or said.fullmatch(lines[line - 1]) is None:
            yield _Found(
                NOT_PLAIN,
                path,
                f"metadata.{name} is not written as `{name}: VALUE` on a line of its own",
                f"write `metadata:` and, indented below it, `{name}: {getattr(loaded.manifest.metadata, name)}`",
            )


def _hosts(manifest: Manifest) -> Iterator[_Found]:
    for index, entry in enumerate(manifest.network.egress):
        path: Path = ("network", "egress", index)
        yield from _known_parameters(manifest, entry, path)
        host = entry.host
        bare = host.removeprefix("*.")
        if "*" in bare:
            yield _Found(
                WILDCARD, (*path, "host"), f"{host!r}: a wildcard may only be the whole leftmost label", "write *.NAME"
            )
        elif "${" not in bare:
            yield from _static(host, bare, path)
        elif entry.open == "manifest":
            yield from _closed(manifest, entry, path)
        if host.startswith("*.") and entry.open == "operator":
            yield _Found(
                WILDCARD,
                (*path, "host"),
                f"{host!r}: an operator approves exact hosts",
                "remove the wildcard or `open: operator`",
            )
        if entry.protocol in _TLS_PROTOCOLS and entry.tls != "required":
            yield _Found(
                NO_TLS, (*path, "tls"), f"{entry.protocol} to {host} without `tls: required`", "set tls: required"
            )


def _known_parameters(manifest: Manifest, entry: Egress, path: Path) -> Iterator[_Found]:
    for found in egress.PLACEHOLDER.finditer(f"{entry.host} {entry.port}"):
        name, part = found.group(1), found.group(2)
        schema = manifest.config.properties.get(name)
        if schema is None:
            yield _Found(
                UNKNOWN_PARAMETER,
                path,
                f"${{config.{name}}} is not in config.schema.properties",
                "add it, or mend the name",
            )
        elif part is not None and schema.get("format") != "uri":
            yield _Found(
                UNKNOWN_PARAMETER,
                path,
                f"${{config.{name}#{part}}} reads a URL, and {name} has no `format: uri`",
                "add it",
            )
        elif entry.required and name not in manifest.config.schema_.get("required", ()) and "default" not in schema:
            yield _Found(
                UNKNOWN_PARAMETER,
                path,
                f"{name} may be missing, and the entry needs it",
                "make the parameter required, give it a default, or set `required: false` on the entry",
            )
    rest = egress.PLACEHOLDER.sub("", entry.host)
    if "$" in rest or "{" in rest:
        yield _Found(
            UNKNOWN_PARAMETER,
            (*path, "host"),
            f"{entry.host!r} has a placeholder of another form",
            "write ${config.NAME}",
        )


def _static(host: str, bare: str, path: Path) -> Iterator[_Found]:
    try:
        egress.host_name(host, Place())
    except ConfigurationError as error:
        yield _Found(error.code, (*path, "host"), error.message, error.hint or "")
        return
    if host.startswith("*.") and registrable(bare) is None:
        yield _Found(
            WILDCARD,
            (*path, "host"),
            f"{host!r} covers a public suffix, where anybody may have a name",
            "name a domain the source owns",
        )


def _closed(manifest: Manifest, entry: Egress, path: Path) -> Iterator[_Found]:
    """An open template must be confined below a registrable domain, or be a finite list of good hosts."""
    tail = entry.host[entry.host.rindex("}") + 1 :]
    confined = tail.startswith(".") and registrable(tail[1:]) is not None
    hosts = {entry.host}
    for found in egress.PLACEHOLDER.finditer(entry.host):
        name, part = found.group(1), found.group(2)
        if part is not None:
            yield _Found(
                OPEN_VARIABLE,
                (*path, "host"),
                f"{found.group(0)} lets the connection name any host",
                "add `open: operator`: it opens nothing until an operator approves the rendered host:port",
            )
            return
        enum, pattern = egress.limits(manifest, name)
        words = enum or (patterns.language(pattern) if pattern is not None else None)
        if words is not None:
            hosts = {host.replace(found.group(0), word) for host in hosts for word in words}
        elif pattern is None or not confined:
            yield _Found(
                OPEN_VARIABLE,
                (*path, "host"),
                f"{found.group(0)} is not closed: "
                + ("its pattern is not provably finite" if pattern else "nothing limits it"),
                f"limit it with network.variables.{name} (enum or finite pattern), or end the host in a fixed domain",
            )
            return
    for host in sorted(hosts):
        if "${" not in host:
            yield from _static(host, host.removeprefix("*."), path)
            if not confined and registrable(host.removeprefix("*.")) is None:
                yield _Found(OPEN_VARIABLE, (*path, "host"), f"{host!r} is a public suffix", "mend the enum")


@cache
def _suffixes() -> Any:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


def registrable(host: str) -> str | None:
    """Return the registrable domain ``host`` lies in, or None if it is a public suffix or above one."""
    found = _suffixes().privatesuffix(host.lower())
    return str(found) if found else None


def _variables(manifest: Manifest) -> Iterator[_Found]:
    used = {name for entry in manifest.network.egress for name in egress.parameters(entry)}
    for name in manifest.network.variables:
        if name not in used:
            yield _Found(
                UNUSED_VARIABLE,
                ("network", "variables", name),
                f"{name} limits nothing",
                "remove it",
                severity="warning",
            )


def _slots(manifest: Manifest) -> Iterator[_Found]:
    slots = set(manifest.secrets.slots)
    used = {slot for method in manifest.auth.methods for slot in method.secrets}
    for slot in sorted(slots - used):
        yield _Found(
            SLOT_UNUSED,
            ("secrets", "slots", slot),
            f"slot {slot} is used by no method",
            "name it in auth.methods, or remove it",
        )
    for index, method in enumerate(manifest.auth.methods):
        for slot in method.secrets:
            if slot not in slots:
                yield _Found(
                    SLOT_UNKNOWN,
                    ("auth", "methods", index, "secrets"),
                    f"method {method.id} uses slot {slot}, which secrets.slots does not have",
                    "declare it there",
                )
    known = [method.id for method in manifest.auth.methods]
    yield from _unique(known, ("auth", "methods"), "method")
    if manifest.auth.default is not None and manifest.auth.default not in known:
        yield _Found(
            AUTH,
            ("auth", "default"),
            f"{manifest.auth.default!r} is not a method",
            f"known: {', '.join(known) or 'none'}",
        )


def _patterns(manifest: Manifest) -> Iterator[_Found]:
    """Find patterns that cannot do what they are for; those of the config's schema are for `_config`."""
    for name, slot in manifest.secrets.slots.items():
        if slot.redact_pattern is not None:
            path: Path = ("secrets", "slots", name, "redact_pattern")
            yield from _slow([(path, slot.redact_pattern)], "line")
            try:
                redact.shape_of(slot.redact_pattern)
            except ValueError as error:
                told = f"{slot.redact_pattern!r} cannot be searched for in bounded time: {error}"
                yield _Found(SLOW_PATTERN, path, told, "write it as RE2 reads it: without look-arounds, for one")
            if re.search(slot.redact_pattern, "") is not None:
                told = f"{slot.redact_pattern!r} finds a secret in an empty line"
                yield _Found(EMPTY_PATTERN, path, told, "let it ask for one character at the least")
    for name, variable in manifest.network.variables.items():
        if variable.pattern is not None:
            yield from _slow([(("network", "variables", name, "pattern"), variable.pattern)], "value")
    for index, stream in enumerate(manifest.streams):
        if stream.pattern is not None:
            yield from _slow([(("streams", index, "pattern"), stream.pattern)], "name")


def _slow(found: Iterable[tuple[Path, str]], text: str) -> Iterator[_Found]:
    for path, pattern in found:
        if not patterns.is_quick(pattern):
            told = f"{pattern!r} may take very long on a hostile {text}"
            yield _Found(SLOW_PATTERN, path, told, "do not put one unbounded repeat inside another")


def _patterns_of(schema: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the patterns of a JSON Schema, each with its place."""
    if isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from _patterns_of(inner, (*path, index))
    elif isinstance(schema, dict):
        for key, inner in schema.items():
            if key == "pattern" and isinstance(inner, str):
                yield (*path, key), inner
            elif key in _OF_NAMES and isinstance(inner, dict):
                if key == "patternProperties":
                    yield from (((*path, key, name), str(name)) for name in inner)
                for name, one in inner.items():
                    yield from _patterns_of(one, (*path, key, name))
            elif key not in _OF_VALUES:
                yield from _patterns_of(inner, (*path, key))


def _unique(names: list[str], path: Path, what: str) -> Iterator[_Found]:
    for name, count in Counter(names).items():
        if count > 1:
            yield _Found(DUPLICATE, path, f"{what} {name!r} is there {count} times", "rename or remove one")


def _streams(manifest: Manifest) -> Iterator[_Found]:
    ceiling = CLASSIFICATIONS.index(manifest.compliance.classification)
    modes = set(manifest.capabilities.sync_modes)
    yield from _unique([stream.name for stream in manifest.streams if stream.name], ("streams",), "stream")
    for index, stream in enumerate(manifest.streams):
        path: Path = ("streams", index)
        name = stream.name or stream.pattern
        classes: list[tuple[Path, Classification | None]] = [(("classification",), stream.classification)]
        classes += [(("fields", field, "classification"), said.classification) for field, said in stream.fields.items()]
        for where, classification in classes:
            if classification is not None and CLASSIFICATIONS.index(classification) > ceiling:
                yield _Found(
                    TOO_HIGH,
                    (*path, *where),
                    f"{name}: {classification} is above the connector's {manifest.compliance.classification}",
                    "raise compliance.classification; tenants must then approve the release again",
                )
        for mode in stream.sync_modes:
            if mode not in modes:
                yield _Found(
                    SYNC_MODE,
                    (*path, "sync_modes"),
                    f"{name}: {mode} is not in capabilities.sync_modes",
                    "add it there",
                )
        if stream.name and "incremental" in stream.sync_modes and stream.cursor is None:
            yield _Found(SYNC_MODE, (*path, "sync_modes"), f"{name}: incremental needs a cursor", "add cursor.field")


def _columns(manifest: Manifest) -> Iterator[_Found]:
    import jsonschema

    for index, stream in enumerate(manifest.streams):
        if isinstance(stream.schema_, dict):
            try:
                jsonschema.Draft202012Validator.check_schema(stream.schema_)
            except jsonschema.SchemaError as error:
                at = ".".join(str(part) for part in error.absolute_path)
                yield _Found(
                    STREAM_SCHEMA,
                    ("streams", index, "schema", *error.absolute_path),
                    f"{stream.name or stream.pattern}: {at or 'the schema'}: {error.message}",
                    "mend it: it has to be a JSON Schema of draft 2020-12",
                )
            except patterns.UNREADABLE as error:
                told = f"{stream.name or stream.pattern}: a pattern of the schema cannot be read: {error}"
                yield _Found(STREAM_SCHEMA, ("streams", index, "schema"), told, "write it smaller")


def _config(manifest: Manifest) -> Iterator[_Found]:
    import jsonschema

    schema = manifest.config.schema_
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        at = ".".join(str(part) for part in error.absolute_path)
        yield _Found(
            CONFIG_SCHEMA,
            ("config", "schema", *error.absolute_path),
            f"{at or 'the schema'}: {error.message}",
            "mend it",
        )
        return
    except patterns.UNREADABLE as error:
        told = f"a pattern of the schema cannot be read: {error}"
        yield _Found(CONFIG_SCHEMA, ("config", "schema"), told, "write it smaller")
        return
    slow = list(_slow(_patterns_of(schema, ("config", "schema")), "value"))
    yield from slow
    if schema.get("type") != "object" or schema.get("additionalProperties") is not False:
        yield _Found(
            CONFIG_SCHEMA,
            ("config", "schema"),
            "the schema must be of a closed object",
            "write `type: object` and `additionalProperties: false`, so that a mistyped parameter is refused",
        )
    for name, inner in manifest.config.properties.items():
        path: Path = ("config", "schema", "properties", name)
        if any(word in name.lower() for word in _SECRET_WORDS):
            yield _Found(
                SECRET_IN_CONFIG,
                path,
                f"{name} looks like a secret, and config is stored and shown",
                "make it a slot under secrets.slots",
            )
        if "default" in inner and not slow:
            broken = next(jsonschema.Draft202012Validator(inner).iter_errors(inner["default"]), None)
            if broken is not None:
                yield _Found(
                    CONFIG_SCHEMA, (*path, "default"), f"the default breaks its own schema: {broken.message}", "mend it"
                )
    # What is slow is not tried here either, on defaults or on what migrations give.
    if not slow:
        yield from _migrations(manifest)


def _migrations(manifest: Manifest) -> Iterator[_Found]:
    """Check that one step leads from each version to the next, and that each speaks of what is there."""
    steps, version = manifest.config.migrations, manifest.config.version
    at: Path = ("config", "migrations")
    pairs = Counter((step.from_, step.to) for step in steps)
    for before in range(1, version):
        if (before, before + 1) not in pairs:
            told = f"no migration leads from config version {before} to {before + 1}"
            yield _Found(MIGRATIONS, at, told, "add one, or start again at version 1")
    for index, step in enumerate(steps):
        told = f"a migration from config version {step.from_} to {step.to}"
        if step.to != step.from_ + 1 or step.to > version:
            hint = f"write one from each version to the next, up to config.version, which is {version}"
            yield _Found(MIGRATIONS, (*at, index), f"{told} is no step on the way", hint)
        elif pairs[step.from_, step.to] > 1:
            yield _Found(MIGRATIONS, (*at, index), f"{told} stands there twice", "make one of them")
    ordered = sorted(enumerate(steps), key=lambda item: item[1].from_)
    for place, (index, step) in enumerate(ordered):
        later = [other for _, other in ordered[place + 1 :]]
        yield from _of_one_step(step, (*at, index))
        yield from _what_comes(manifest.config, step, later, (*at, index))
        yield from _what_goes(manifest.config, step, later, (*at, index))


def _of_one_step(step: Migration, path: Path) -> Iterator[_Found]:
    """Find what a migration says twice, or against itself: its result would depend on an order nobody sees."""
    for what, names in (("taken away", [*step.rename, *step.remove]), ("put", [*step.rename.values(), *step.set])):
        for name in sorted(names):
            others = [other for other in names if other.startswith(f"{name}.")]
            if others or names.count(name) > 1:
                told = f"{others[0]} is {what} with {name}" if others else f"{name} is {what} twice"
                yield _Found(MIGRATED, path, told, "say each parameter once")
                break
    for name in sorted(set(step.remove) & {*step.rename.values(), *step.set}):
        yield _Found(
            MIGRATED, (*path, "remove"), f"{name} is removed and put by one migration", "leave out one of both"
        )
    for name, pairs in step.map.items():
        if name in step.rename and name not in step.rename.values():
            told = f"{name} is called {step.rename[name]} by the time values are mapped"
            yield _Found(MIGRATED, (*path, "map", name), told, "name the parameter as the migration leaves it")
        if len({written(pair.from_) for pair in pairs}) < len(pairs):
            yield _Found(MIGRATED, (*path, "map", name), f"a value of {name} is mapped twice", "say each value once")
    for name in (*step.rename.values(), *step.set):
        if any(word in name.lower() for word in _SECRET_WORDS):
            told = f"{name} looks like a secret, and config is stored and shown"
            yield _Found(SECRET_IN_CONFIG, path, told, "make it a slot under secrets.slots")


def _what_comes(config: Config, step: Migration, later: list[Migration], path: Path) -> Iterator[_Found]:
    """Find names a migration leaves behind that the schema does not know, and values that do not fit it."""
    values = [(name, [value]) for name, value in step.set.items()]
    values += [(name, [pair.to for pair in pairs]) for name, pairs in step.map.items()]
    for name in dict.fromkeys((*step.rename.values(), *step.map, *step.set)):
        last = _called(name, later)
        if last is not None and parameter(config.schema_, last) is None:
            called = f", which is called {last} in the end" if last != name else ""
            told = f"the migration to config version {step.to} speaks of {name}{called}: the schema has none such"
            yield _Found(MIGRATED, path, told, "name a parameter of config.schema")
    for name, given in values:
        last = _called(name, later)
        schema = None if last is None else parameter(config.schema_, last)
        if schema is None or any(_called(name, later[:at]) in other.map for at, other in enumerate(later)):
            continue
        for value in given:
            if not _fits(value, schema):
                told = f"the migration to config version {step.to} gives {name} {value!r}, which its schema refuses"
                yield _Found(MIGRATED, path, told, "write a value that fits")


def _what_goes(config: Config, step: Migration, later: list[Migration], path: Path) -> Iterator[_Found]:
    """Find names a migration takes away that are in the schema all the same."""
    back = {name for one in (step, *later) for name in (*one.rename.values(), *one.set)}
    for name in (*step.rename, *step.remove):
        is_back = any(other == name or other.startswith(f"{name}.") for other in back)
        if not is_back and parameter(config.schema_, name, open_ones=False) is not None:
            told = f"the migration to config version {step.to} takes {name} away, and the schema still has it"
            yield _Found(MIGRATED, path, told, "take it out of config.schema, or out of the migration")


def _called(name: str, later: list[Migration]) -> str | None:
    """Return what a parameter is called after further migrations; None where one of them removes it."""
    for step in later:
        for old, new in step.rename.items():
            if name == old or name.startswith(f"{old}."):
                name = new + name[len(old) :]
                break
        if any(name == gone or name.startswith(f"{gone}.") for gone in step.remove):
            return None
    return name


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    import jsonschema

    fits: bool = jsonschema.Draft202012Validator(schema).is_valid(value)
    return fits


def _compatibility(manifest: Manifest) -> Iterator[_Found]:
    version = Version.parse(manifest.metadata.version)
    state = manifest.compatibility.state
    if state.writes not in state.reads:
        yield _Found(
            STATE,
            ("compatibility", "state"),
            f"the release writes state {state.writes} and cannot read it (reads {', '.join(map(str, state.reads))})",
            "add it to reads",
        )
    floor = manifest.compatibility.rollback_floor
    if floor is not None and Version.parse(floor) > version:
        yield _Found(VERSION_ORDER, ("compatibility", "rollback_floor"), f"{floor} is newer than {version}", "mend it")
    for index, change in enumerate(manifest.compatibility.breaking):
        if Version.parse(change.version) > version:
            yield _Found(
                VERSION_ORDER,
                ("compatibility", "breaking", index, "version"),
                f"{change.version} is newer than {version}",
                "a manifest tells of changes up to its own version",
            )
    try:
        Range.parse(manifest.runtime.host)
    except ConfigurationError as error:
        yield _Found(HOST_RANGE, ("runtime", "host"), error.message, error.hint or "")


def _support(manifest: Manifest) -> Iterator[_Found]:
    support = manifest.support
    if (support.lifecycle in ("deprecated", "retired")) != (support.deprecation is not None):
        yield _Found(
            LIFECYCLE,
            ("support",),
            f"lifecycle {support.lifecycle} and {'no' if support.deprecation is None else 'a'} deprecation",
            "set both or neither",
        )
    if support.level == "certified" and manifest.compliance.reviewed is None:
        yield _Found(
            NOT_REVIEWED, ("support", "level"), "certified, and nobody reviewed it", "fill compliance.reviewed"
        )


def _token_urls(manifest: Manifest) -> Iterator[_Found]:
    opened = {entry.host for entry in manifest.network.egress}
    for index, method in enumerate(manifest.auth.methods):
        if method.token_url is None or "${" in method.token_url:
            continue
        path, parts = ("auth", "methods", index, "token_url"), addresses.split(method.token_url)
        host = parts.hostname if parts else None
        if host is None:
            told = f"{method.token_url!r} is not an address with a host and a port that exists"
            yield _Found(NOT_IN_EGRESS, path, told, "write https://HOST[:PORT]/PATH")
        elif host not in opened and f"*.{host.partition('.')[2]}" not in opened:
            told = f"{method.token_url!r} names the host {host!r}, which no egress entry opens"
            yield _Found(NOT_IN_EGRESS, path, told, "add it to network.egress")


def _type(manifest: Manifest) -> Iterator[_Found]:
    kind = manifest.taxonomy.type
    capabilities = manifest.capabilities
    if kind != "http" and capabilities.pagination:
        yield _Found(
            TYPE_RULE,
            ("capabilities", "pagination"),
            f"a {kind} source has no pages",
            "remove pagination, or mend taxonomy.type",
        )
    if kind == "http" and not capabilities.pagination:
        yield _Found(TYPE_RULE, ("capabilities",), "an http source states its pagination", "list the modes, or `none`")
    if kind in ("http", "database", "queue") and not manifest.network.egress:
        yield _Found(
            TYPE_RULE,
            ("network",),
            f"a {kind} source is reached over the network, and no egress is listed",
            "add network.egress",
        )
    if kind == "http":
        for index, entry in enumerate(manifest.network.egress):
            if entry.protocol not in ("http", "https", "wss"):
                yield _Found(
                    TYPE_RULE,
                    ("network", "egress", index, "protocol"),
                    f"an http source does not speak {entry.protocol}",
                    "mend it",
                )
    if kind == "webhook" and capabilities.replay == "position":
        yield _Found(
            TYPE_RULE,
            ("capabilities", "replay"),
            "a webhook cannot be read again from a position",
            "set replay: redelivery (the sender repeats) or none",
        )


RULES: tuple[Callable[[Manifest], Iterator[_Found]], ...] = (
    _hosts,
    _variables,
    _slots,
    _patterns,
    _streams,
    _columns,
    _config,
    _compatibility,
    _support,
    _token_urls,
    _type,
)
