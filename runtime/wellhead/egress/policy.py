"""What one run may reach, by name and port: pure, and the same file on the host and in the gateway.

A policy is a list of rules. What no rule names is denied. Names are compared in one normal form; whatever has no normal
form is denied by the reason it has none, and never repaired: the client, the resolver and we must all mean one name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from wellhead.egress import address
from wellhead.egress.address import Address, Network, Verdict

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
#: What `inet_aton` and its many copies take for a number, and so the whole name for an address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
MAX_NAME = 253


class UnusableNameError(ValueError):
    """A text is not a host name; ``reason`` is the verdict's word for it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def normalise(name: str) -> str:
    """Return ``name`` in lower case without its root dot.

    Raises:
        UnusableNameError: it is not ASCII (``not_ascii``: write it in its ``xn--`` form), is an address however spelled
            (``literal_address``), or breaks the grammar of host names (``invalid_name``).
    """
    if not name.isascii():
        raise UnusableNameError("not_ascii")
    plain = name.lower().removesuffix(".")
    if _is_address(plain):
        raise UnusableNameError("literal_address")
    labels = plain.split(".")
    if len(plain) > MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise UnusableNameError("invalid_name")
    if _NUMBER.fullmatch(labels[-1]):
        raise UnusableNameError("literal_address")
    return plain


def _is_address(text: str) -> bool:
    try:
        ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Rule:
    """One permission.

    Attributes:
        host: an exact name, or ``*.`` and a name: then exactly one more label stands in the star's place.
        port: the TCP port.
        tls: the connection speaks TLS from its first byte, and must ask for ``host`` in SNI.
        private: the operator's grants hold for this host; without it even a granted address is refused, so that a
            public name that someone points at a granted range stays closed.
        approved: False for a host that waits for an operator's approval; it opens nothing.
    """

    host: str
    port: int
    tls: bool = False
    private: bool = False
    approved: bool = True

    def __post_init__(self) -> None:
        """Bring the host into normal form.

        Raises:
            ValueError: the host is not a name or the port is out of range.
        """
        wild = self.host.startswith("*.")
        object.__setattr__(self, "host", ("*." if wild else "") + normalise(self.host.removeprefix("*.")))
        if not 1 <= self.port <= 65535:
            raise ValueError(f"{self.port} is not a TCP port")

    @property
    def is_wildcard(self) -> bool:
        """Say whether the rule speaks for the children of a name."""
        return self.host.startswith("*.")

    def names(self, host: str) -> bool:
        """Say whether the rule speaks about ``host``, which is in normal form."""
        if self.is_wildcard:
            child, dot, parent = host.partition(".")
            return bool(child and dot) and parent == self.host[2:]
        return host == self.host


@dataclass(frozen=True, slots=True)
class Grant:
    """A private range that an operator opened, for some ports."""

    network: Network
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one name and port; ``rule`` is the one that allowed or nearly allowed it."""

    allowed: bool
    reason: str
    rule: Rule | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything a run may reach.

    Attributes:
        rules: the permissions; their order means nothing.
        hosts: names the resolver does not know, as the operator mapped them.
        grants: private ranges the operator opened for this connection.
    """

    rules: tuple[Rule, ...] = ()
    hosts: Mapping[str, Address] = field(default_factory=dict)
    grants: tuple[Grant, ...] = ()

    @property
    def opens_nothing(self) -> bool:
        """Say whether no connection at all could be allowed, so that a run needs no network."""
        return not any(rule.approved for rule in self.rules)

    def decide(self, host: str, port: int) -> Decision:
        """Judge a name and a port as the connector wrote them."""
        try:
            name = normalise(host)
        except UnusableNameError as exc:
            return Decision(False, exc.reason)
        if not 1 <= port <= 65535:
            return Decision(False, "invalid_port")
        named = [rule for rule in self.rules if rule.names(name)]
        if not named:
            return Decision(False, "unlisted_host")
        fitting = [rule for rule in named if rule.port == port]
        if not fitting:
            return Decision(False, "unlisted_port", named[0])
        # An exact rule is the more careful statement: its SNI check must not be lost to a wildcard beside it.
        open_rules = sorted(
            (rule for rule in fitting if rule.approved), key=lambda rule: (rule.is_wildcard, not rule.tls)
        )
        if not open_rules:
            return Decision(False, "needs_approval", fitting[0])
        return Decision(True, "listed", open_rules[0])

    def is_listed(self, name: str) -> bool:
        """Say whether any open rule speaks about ``name``, which is in normal form."""
        return any(rule.approved and rule.names(name) for rule in self.rules)

    def judge(self, rule: Rule, found: Address) -> Verdict:
        """Judge an address that a name allowed by ``rule`` resolved to."""
        grants = [grant.network for grant in self.grants if rule.port in grant.ports] if rule.private else []
        return address.classify(found, grants)

    def to_json(self) -> str:
        """Return the policy as the document `from_json` reads; equal policies give equal text."""
        return json.dumps(
            {
                "rules": [
                    {
                        "host": rule.host,
                        "port": rule.port,
                        "tls": rule.tls,
                        "private": rule.private,
                        "approved": rule.approved,
                    }
                    for rule in self.rules
                ],
                "hosts": {name: str(found) for name, found in sorted(self.hosts.items())},
                "grants": [{"network": str(grant.network), "ports": list(grant.ports)} for grant in self.grants],
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is not such a document; unknown keys are refused, so that an older gateway never ignores a
                restriction that a newer host meant.
        """
        document = _keys(json.loads(text), {"rules", "hosts", "grants"})
        rules = tuple(Rule(**_keys(rule, {"host", "port", "tls", "private", "approved"})) for rule in document["rules"])
        grants = tuple(
            Grant(ip_network(grant["network"]), tuple(grant["ports"]))
            for grant in (_keys(entry, {"network", "ports"}) for entry in document["grants"])
        )
        return cls(rules, {normalise(name): ip_address(found) for name, found in document["hosts"].items()}, grants)


def _keys(value: Any, expected: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != expected:
        raise ValueError(f"expected an object with exactly the keys {', '.join(sorted(expected))}")
    return value
