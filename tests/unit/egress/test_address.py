"""The judgement of addresses: a table of spellings and ranges, and properties over all of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.egress import address
from wellhead.egress.address import GRANTABLE, NEVER, Network, classify, classify_text

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700:4700::1111",
    "2a00:1450:4001::200e",
]

DENIED = {
    "0.0.0.0": "unspecified",
    "0.255.255.255": "unspecified",
    "10.0.0.1": "private",
    "10.255.255.255": "private",
    "100.64.0.0": "shared",
    "100.100.100.200": "metadata",
    "100.127.255.255": "shared",
    "127.0.0.1": "loopback",
    "127.255.255.255": "loopback",
    "168.63.129.16": "metadata",
    "169.254.0.1": "link_local",
    "169.254.169.254": "metadata",
    "169.254.170.2": "metadata",
    "172.16.0.0": "private",
    "172.31.255.255": "private",
    "192.0.0.1": "special_purpose",
    "192.0.0.192": "metadata",
    "192.0.2.7": "documentation",
    "192.88.99.1": "special_purpose",
    "192.168.0.1": "private",
    "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::": "unspecified",
    "::1": "loopback",
    "::7f00:1": "ipv4_in_ipv6",
    "::ffff:127.0.0.1": "ipv4_in_ipv6",
    "::ffff:8.8.8.8": "ipv4_in_ipv6",
    "::ffff:0:a9fe:a9fe": "ipv4_in_ipv6",
    "64:ff9b::808:808": "ipv4_in_ipv6",
    "64:ff9b:1::1": "ipv4_in_ipv6",
    "100::1": "reserved",
    "2001::1": "ipv4_in_ipv6",
    "2001:2::1": "special_purpose",
    "2001:db8::1": "documentation",
    "2002:a9fe:a9fe::1": "ipv4_in_ipv6",
    "2a00:1450::5efe:a9fe:a9fe": "ipv4_in_ipv6",
    "2a00:1450::200:5efe:a00:1": "ipv4_in_ipv6",
    "3fff::1": "documentation",
    "4000::1": "reserved",
    "5f00::1": "reserved",
    "fc00::1": "unique_local",
    "fd00:ec2::254": "metadata",
    "fd12:3456:789a::1": "unique_local",
    "fe80::1": "link_local",
    "fe80::1%eth0": "link_local",
    "2606:4700::1%eth0": "link_local",
    "febf::1": "link_local",
    "fec0::1": "site_local",
    "ff02::1": "multicast",
}

SPELLINGS = [
    "",
    " 8.8.8.8",
    "8.8.8.8 ",
    "8.8.8.8\n",
    "010.8.8.8",
    "0177.0.0.1",
    "0x7f.1",
    "0x7f000001",
    "127.1",
    "2130706433",
    "8.8.8",
    "8.8.8.8.8",
    "256.1.1.1",
    "8.8.8.8/32",
    "[2606:4700::1]",
    "1.1.1.1:443",
    "１.1.1.1",  # noqa: RUF001 - the fullwidth digit is the case
    "1。1。1。1",
    "::ffff:0x7f000001",
    "localhost",
]

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_is_allowed(text: str) -> None:
    assert classify_text(text) == address.Verdict(True, "public")


@pytest.mark.parametrize(("text", "reason"), DENIED.items())
def test_a_special_address_is_denied_with_its_reason(text: str, reason: str) -> None:
    assert classify_text(text) == address.Verdict(False, reason)


@pytest.mark.parametrize("text", SPELLINGS)
def test_what_is_not_in_canonical_form_is_no_address(text: str) -> None:
    assert classify_text(text, EVERYTHING) == address.Verdict(False, "not_an_address")


@pytest.mark.parametrize(("text", "reason"), DENIED.items())
def test_a_grant_over_everything_opens_private_ranges_alone(text: str, reason: str) -> None:
    grantable = reason in {"private", "shared", "unique_local"}
    assert classify_text(text, EVERYTHING).allowed is grantable


def test_a_grant_opens_its_own_range_and_no_neighbour() -> None:
    grant = (ip_network("10.1.2.3/32"),)
    assert classify_text("10.1.2.3", grant) == address.Verdict(True, "granted")
    assert classify_text("10.1.2.4", grant) == address.Verdict(False, "private")
    assert classify_text("10.1.2.2", grant) == address.Verdict(False, "private")


def test_a_grant_of_one_family_says_nothing_of_the_other() -> None:
    assert not classify_text("fd00::a01:203", (ip_network("10.1.2.3/32"),)).allowed
    assert not classify_text("10.1.2.3", (ip_network("fd00::/8"),)).allowed


@pytest.mark.parametrize("network", [network for network, _ in (*NEVER, *GRANTABLE)], ids=str)
def test_each_range_is_closed_from_its_first_to_its_last_address(network: Network) -> None:
    assert not classify(network[0]).allowed
    assert not classify(network[-1]).allowed


def denied_v4() -> st.SearchStrategy[IPv4Address]:
    ranges = [network for network, _ in (*NEVER, *GRANTABLE) if network.version == 4]
    return st.sampled_from(ranges).flatmap(
        lambda network: st.integers(int(network[0]), int(network[-1])).map(IPv4Address)
    )


EMBEDDINGS = {
    "mapped": lambda v4: (0xFFFF << 32) | v4,
    "compatible": lambda v4: v4,
    "translated": lambda v4: (0xFFFF << 48) | v4,
    "nat64": lambda v4: (0x64FF9B << 96) | v4,
    "6to4": lambda v4: (0x2002 << 112) | (v4 << 80) | 1,
    "teredo": lambda v4: (0x20010000 << 96) | (v4 ^ 0xFFFFFFFF),
    "isatap": lambda v4: (0x2A00145040010000 << 64) | (0x00005EFE << 32) | v4,
    "isatap, global bit": lambda v4: (0x2A00145040010000 << 64) | (0x02005EFE << 32) | v4,
}


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@given(inner=denied_v4())
def test_a_denied_address_stays_denied_inside_ipv6_whatever_is_granted(embedding: str, inner: IPv4Address) -> None:
    assert not classify(IPv6Address(EMBEDDINGS[embedding](int(inner))), EVERYTHING).allowed


@given(value=st.integers(0, 2**128 - 1))
def test_no_ipv6_address_outside_global_unicast_is_public(value: int) -> None:
    found = IPv6Address(value)
    verdict = classify(found)
    assert not verdict.allowed or found in ip_network("2000::/3")


@given(value=st.integers(0, 2**32 - 1))
def test_python_never_calls_a_public_verdict_private(value: int) -> None:
    found = IPv4Address(value)
    assert not classify(found).allowed or (found.is_global and not found.is_multicast)


@given(text=st.text(max_size=60))
def test_any_text_gets_a_verdict(text: str) -> None:
    assert classify_text(text).reason
