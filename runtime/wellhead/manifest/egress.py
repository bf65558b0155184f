"""The manifest's ways out, filled in with one connection's config.

What comes out is names and ports only. Whether an address behind a name may be reached is the fence's question, asked
again at every connect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import SplitResult

from wellhead import addresses
from wellhead.errors import Code, ConfigurationError, Place
from wellhead.manifest.model import Egress, Manifest

BAD_HOST = Code("WH-MAN-101", "An egress entry does not render to a host name.")
BAD_PORT = Code("WH-MAN-102", "An egress entry does not render to a TCP port.")
LITERAL_ADDRESS = Code("WH-MAN-103", "An egress entry names an address instead of a host.")
MISSING_VALUE = Code("WH-MAN-104", "An egress entry needs a parameter the connection does not give.")
NOT_ALLOWED = Code("WH-MAN-105", "A parameter's value is not among those the manifest allows in egress.")

PLACEHOLDER = re.compile(r"\$\{config\.([A-Za-z0-9_.-]+)(?:#(host|port))?\}")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_SCHEME_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "postgres": 5432, "mysql": 3306, "redis": 6379}


@dataclass(frozen=True, slots=True)
class EgressEntry:
    """One permitted host:port pair of one connection; ``host`` may start with ``*.``.

    ``open`` says who opens it: the manifest by being approved, or an operator for exactly this pair. ``private`` says
    that the operator may grant private addresses for it.
    """

    host: str
    port: int
    protocol: str
    tls: Literal["required", "optional", "none"]
    open: Literal["manifest", "operator"]
    private: bool


def render_egress(manifest: Manifest, config: Mapping[str, Any]) -> tuple[EgressEntry, ...]:
    """Return the ways out of one connection, in the manifest's order, equal ones once.

    An entry with ``required: false`` whose parameters are not given is left out.

    Args:
        manifest: of the release.
        config: as `check_config` returned it, with defaults filled in.

    Raises:
        ConfigurationError: an entry renders to no host name (WH-MAN-101, 103) or port (102), lacks a parameter (104),
            or uses a value its limits exclude (105).
    """
    rendered: dict[EgressEntry, None] = {}
    for index, entry in enumerate(manifest.network.egress):
        place = Place(field=f"network.egress.{index}")
        if not entry.required and any(_lookup(config, name) is None for name in parameters(entry)):
            continue
        host = host_name(_fill(entry.host, manifest, entry, config, place), place)
        port = _port(entry, config, place)
        private = manifest.network.private_networks == "with_operator_grant" if entry.private is None else entry.private
        rendered[EgressEntry(host, port, entry.protocol, entry.tls, entry.open, private)] = None
    return tuple(rendered)


def parameters(entry: Egress) -> tuple[str, ...]:
    """Return the config parameters an entry uses, in order."""
    texts = (entry.host, str(entry.port))
    return tuple(dict.fromkeys(found.group(1) for text in texts for found in PLACEHOLDER.finditer(text)))


def host_name(text: str, place: Place) -> str:
    """Return ``text`` as a lower-case DNS name, ``*.`` allowed in front.

    Raises:
        ConfigurationError: it is an address in whatever spelling (WH-MAN-103), or no DNS name (WH-MAN-101).
    """
    name = text.rstrip(".").lower() if text.count(".") and not text.endswith("..") else text.lower()
    bare = name.removeprefix("*.")
    if "://" not in bare and looks_like_address(bare):
        raise ConfigurationError(
            f"{text!r} is an address, and egress is granted to names",
            code=LITERAL_ADDRESS,
            hint="let the operator map a name to it under network.hosts in wellhead.yaml, and use that name",
            place=place,
        )
    if not bare.isascii():
        raise ConfigurationError(
            f"{text!r} is not written in ASCII",
            code=BAD_HOST,
            hint=f"write its punycode form{_punycode(bare)}",
            place=place,
        )
    if len(bare) > 253 or not all(_LABEL.fullmatch(label) for label in bare.split(".")):
        raise ConfigurationError(
            f"{text!r} is not a host name",
            code=BAD_HOST,
            hint="give a bare DNS name such as api.example.com, without scheme, port or path",
            place=place,
        )
    return name


def looks_like_address(host: str) -> bool:
    """Say whether some program would take ``host`` for an address: IPv6, or a last label that is a number.

    Source: WHATWG URL, "ends in a number checker"; it covers 2130706433, 0x7f.1 and 127.1.
    """
    last = host.strip("[]").rsplit(".", 1)[-1]
    return ":" in host or host.startswith("[") or last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last) is not None


def _fill(template: str, manifest: Manifest, entry: Egress, config: Mapping[str, Any], place: Place) -> str:
    def value(found: re.Match[str]) -> str:
        name, part = found.group(1), found.group(2)
        text = _needed(config, name, place)
        if part is not None:
            return _url(text, name, place).hostname or ""
        if entry.open == "manifest":
            _within_limits(manifest, name, text, place)
        return text

    return PLACEHOLDER.sub(value, template)


def _within_limits(manifest: Manifest, name: str, text: str, place: Place) -> None:
    enum, pattern = limits(manifest, name)
    if (enum and text in enum) or (pattern is not None and re.fullmatch(pattern, text)):
        return
    allowed = ", ".join(enum) if enum else pattern or "nothing: the manifest sets no limit"
    raise ConfigurationError(
        f"config.{name} is {text!r}, which may not be used in a host name (allowed: {allowed})",
        code=NOT_ALLOWED,
        hint="choose an allowed value, or ask the connector's publisher for a release that allows this one",
        place=place,
    )


def limits(manifest: Manifest, name: str) -> tuple[tuple[str, ...], str | None]:
    """Return the enum and the whole-value pattern that close ``${config.name}``; empty and None when nothing does."""
    variable = manifest.network.variables.get(name)
    if variable is not None:
        return variable.enum, variable.pattern
    schema = manifest.config.properties.get(name, {})
    if "const" in schema:
        return (str(schema["const"]),), None
    if "enum" in schema:
        return tuple(str(value) for value in schema["enum"]), None
    pattern = schema.get("pattern")
    # JSON Schema searches; only an anchored pattern speaks of the whole value.
    if isinstance(pattern, str) and pattern.startswith("^") and pattern.endswith("$") and not pattern.endswith(r"\$"):
        return (), f"(?:{pattern[1:-1]})"
    return (), None


def _port(entry: Egress, config: Mapping[str, Any], place: Place) -> int:
    if isinstance(entry.port, int):
        return entry.port
    found = PLACEHOLDER.fullmatch(entry.port)
    if found is None:
        raise ConfigurationError(f"{entry.port!r} is not a port", code=BAD_PORT, hint="see the manifest", place=place)
    name, part = found.group(1), found.group(2)
    text = _needed(config, name, place)
    if part == "port":
        url = _url(text, name, place)
        number = url.port or _SCHEME_PORTS.get(url.scheme.lower(), 0)
    else:
        number = int(text) if text.isdecimal() and text.isascii() else 0
    if not 1 <= number <= 65535:
        raise ConfigurationError(
            f"config.{name} is {text!r}, which gives no TCP port",
            code=BAD_PORT,
            hint="give a number from 1 to 65535, or a URL with one",
            place=Place(field=f"config.{name}"),
        )
    return number


def _url(text: str, name: str, place: Place) -> SplitResult:
    url = addresses.split(text)
    if url is None:
        raise ConfigurationError(
            f"config.{name} is {text!r}, which is not a URL with a host",
            code=BAD_HOST,
            hint="give a URL such as https://api.example.com/v1",
            place=place,
        )
    return url


def _needed(config: Mapping[str, Any], name: str, place: Place) -> str:
    value = _lookup(config, name)
    if value is None or isinstance(value, dict | list):
        raise ConfigurationError(
            f"config.{name} is needed by an egress entry and is not given",
            code=MISSING_VALUE,
            hint=f"set {name} under config of the connection",
            place=place,
        )
    return str(value)


def _lookup(config: Mapping[str, Any], name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _punycode(name: str) -> str:
    try:
        return f": {name.encode('idna').decode()}"
    except UnicodeError:
        return ""
