"""Which addresses a connector may reach: pure, and the same file on the host and in the gateway.

Deny, then allow. ``ipaddress.is_global`` is not the rule, because it calls multicast, 6to4, NAT64 and some metadata
addresses global. Sources: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890), the multicast
registries, and the clouds' own pages for their metadata addresses.

    never            loopback, link-local, metadata, multicast, IPv4 inside IPv6, reserved … : no grant opens them
    by grant alone   RFC 1918, shared (RFC 6598), unique local (RFC 4193)
    public           what is left of IPv4 and of 2000::/3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer and its reason: one lower-case word or words joined by ``_``, stable for scripts."""

    allowed: bool
    reason: str


#: Cloud metadata and host services that hide in ranges a grant could open, or in public space.
METADATA: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), "metadata")
    for network in (
        "169.254.169.254/32",  # AWS, GCP, Azure, OpenStack, DigitalOcean, Hetzner
        "169.254.170.2/32",  # AWS ECS task credentials
        "169.254.170.23/32",  # AWS EKS pod identity
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure host agent: public by its number
        "192.0.0.192/32",  # Oracle Cloud, older endpoint
        "fd00:ec2::254/128",  # AWS over IPv6
        "fd00:ec2::23/128",  # AWS EKS pod identity over IPv6
        "fd20:ce::254/128",  # GCP over IPv6
        "fd00:42::42/128",  # Scaleway over IPv6
    )
)

#: No grant opens these. The first range that holds the address names the reason.
NEVER: tuple[tuple[Network, str], ...] = METADATA + tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "unspecified"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link_local"),
        ("192.0.0.0/24", "special_purpose"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "special_purpose"),  # AS112
        ("192.52.193.0/24", "special_purpose"),  # AMT
        ("192.88.99.0/24", "special_purpose"),  # 6to4 relay anycast, deprecated
        ("192.175.48.0/24", "special_purpose"),  # AS112
        ("198.18.0.0/15", "benchmarking"),  # also where the slots of fenced runs live
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "ipv4_in_ipv6"),  # mapped
        ("::/96", "ipv4_in_ipv6"),  # compatible
        ("::ffff:0:0:0/96", "ipv4_in_ipv6"),  # translated, RFC 2765
        ("64:ff9b::/96", "ipv4_in_ipv6"),  # NAT64
        ("64:ff9b:1::/48", "ipv4_in_ipv6"),  # local NAT64
        ("2001::/32", "ipv4_in_ipv6"),  # Teredo
        ("2002::/16", "ipv4_in_ipv6"),  # 6to4
        ("fe80::/10", "link_local"),
        ("fec0::/10", "site_local"),
        ("ff00::/8", "multicast"),
        ("2001:db8::/32", "documentation"),
        ("3fff::/20", "documentation"),
        ("2001::/23", "special_purpose"),
        ("2620:4f:8000::/48", "special_purpose"),  # AS112
    )
)

#: Opened by an operator's grant, by nothing else.
GRANTABLE: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("10.0.0.0/8", "private"),
        ("172.16.0.0/12", "private"),
        ("192.168.0.0/16", "private"),
        ("100.64.0.0/10", "shared"),
        ("fc00::/7", "unique_local"),
    )
)

#: All unicast space that IANA ever handed out; whatever else an IPv6 address may be, it is not a public host.
_UNICAST_V6 = IPv6Network("2000::/3")
#: Interface identifiers of ISATAP (RFC 5214) carry an IPv4 address in their last 32 bits.
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})

_PUBLIC = Verdict(True, "public")
_GRANTED = Verdict(True, "granted")


def classify(address: Address, grants: Sequence[Network] = ()) -> Verdict:
    """Judge one address; ``grants`` are the private ranges an operator opened.

    A grant opens only what `GRANTABLE` lists: a grant over all of IPv4 still leaves loopback, link-local and metadata
    closed. IPv4 inside IPv6 is refused whatever the IPv4 is: its owner has a plain address to be reached at.
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return Verdict(False, "link_local")
    reason = _holder(address, NEVER)
    if reason is not None:
        return Verdict(False, reason)
    reason = _holder(address, GRANTABLE)
    if reason is not None:
        granted = any(grant.version == address.version and address in grant for grant in grants)
        return _GRANTED if granted else Verdict(False, reason)
    if isinstance(address, IPv6Address):
        if address not in _UNICAST_V6:
            return Verdict(False, "reserved")
        if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP and not classify(
            IPv4Address(int(address) & 0xFFFFFFFF)
        ).allowed:
            return Verdict(False, "ipv4_in_ipv6")
    return _PUBLIC


def classify_text(text: str, grants: Sequence[Network] = ()) -> Verdict:
    """Judge an address as written; whatever is not in canonical dotted or colon form is denied as ``not_an_address``.

    ``0x7f.1``, ``2130706433`` and ``0177.0.0.1`` are what some resolvers take for 127.0.0.1; none of them is read here.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return Verdict(False, "not_an_address")
    return classify(address, grants)


def _holder(address: Address, table: tuple[tuple[Network, str], ...]) -> str | None:
    return next(
        (reason for network, reason in table if network.version == address.version and address in network), None
    )
