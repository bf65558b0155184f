"""What a tenant agreed to, and what a newer release asks for beyond it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.compat import surface
from wellhead.compat.surface import Surface, Way, grown
from wellhead.manifest import load
from wellhead.manifest.model import CLASSIFICATIONS, Manifest

EXAMPLE = load.load(Path(__file__).parents[1] / "manifest" / "example.yaml").manifest
CONFIG = {"region": "eu", "start_date": "2026-01-01"}
API = Way("api.example.com", 443, "required", "manifest", private=False)
AGREED = Surface((API,), ("read",), "internal")


def with_section(**sections: Any) -> Manifest:
    return EXAMPLE.model_copy(update=sections)


def test_hosts_are_those_of_this_connection_and_scopes_those_of_its_login() -> None:
    agreed = surface.surface(EXAMPLE, CONFIG, ["client_id", "client_secret"])
    assert [str(way) for way in agreed.egress] == [
        "*.files.harbor.example:443",
        "api.eu.harbor.example:443",
        "login.harbor.example:443",
    ]
    assert agreed.scopes == ("read.accounts", "read.deals")
    assert agreed.classification == "confidential"
    assert surface.surface(EXAMPLE, CONFIG, ["another"]).scopes == ()
    assert surface.surface(EXAMPLE, CONFIG).scopes == agreed.scopes


def test_the_order_of_the_manifest_does_not_change_the_hash_and_a_host_does() -> None:
    network = EXAMPLE.network
    turned = with_section(network=network.model_copy(update={"egress": network.egress[::-1]}))
    one = surface.surface(EXAMPLE, CONFIG)
    assert surface.surface(turned, CONFIG).sha256 == one.sha256
    assert surface.surface(EXAMPLE, CONFIG | {"region": "us"}).sha256 != one.sha256


@pytest.mark.parametrize(
    ("new", "phrases"),
    [
        (AGREED, ()),
        (dataclasses.replace(AGREED, egress=()), ()),
        (dataclasses.replace(AGREED, scopes=(), classification="public"), ()),
        (
            dataclasses.replace(AGREED, egress=(API, dataclasses.replace(API, host="b.example.com"))),
            ("host b.example.com:443",),
        ),
        (dataclasses.replace(AGREED, egress=(dataclasses.replace(API, port=8443),)), ("host api.example.com:8443",)),
        (
            dataclasses.replace(AGREED, egress=(dataclasses.replace(API, host="*.example.com"),)),
            ("host *.example.com:443",),
        ),
        (
            dataclasses.replace(AGREED, egress=(dataclasses.replace(API, tls="none"),)),
            ("weaker TLS to api.example.com:443",),
        ),
        (
            dataclasses.replace(AGREED, egress=(dataclasses.replace(API, private=True),)),
            ("private addresses behind api.example.com:443",),
        ),
        (dataclasses.replace(AGREED, scopes=("read", "write")), ("scope write",)),
        (
            dataclasses.replace(AGREED, classification="restricted"),
            ("classification restricted instead of internal",),
        ),
    ],
)
def test_what_is_new_is_named_and_what_is_gone_is_not(new: Surface, phrases: tuple[str, ...]) -> None:
    assert grown(AGREED, new) == phrases


def test_a_host_below_an_agreed_wildcard_is_no_news() -> None:
    wide = dataclasses.replace(AGREED, egress=(dataclasses.replace(API, host="*.example.com"),))
    assert grown(wide, AGREED) == ()


@pytest.mark.parametrize("host", ["example.com", "badexample.com", "a.b.example.com", "*.eu.example.com"])
def test_a_wildcard_stands_for_one_label_and_nothing_else(host: str) -> None:
    wide = dataclasses.replace(AGREED, egress=(dataclasses.replace(API, host="*.example.com"),))
    assert grown(wide, dataclasses.replace(AGREED, egress=(dataclasses.replace(API, host=host),))) == (
        f"host {host}:443",
    )


def test_a_host_that_no_longer_waits_for_the_operator_is_news() -> None:
    waiting = dataclasses.replace(AGREED, egress=(dataclasses.replace(API, open="operator"),))
    assert grown(waiting, AGREED) == ("api.example.com:443 without an operator's approval",)
    assert grown(AGREED, waiting) == ()


WAYS = st.builds(
    Way,
    st.sampled_from(["a.example", "*.a.example", "x.a.example", "b.example"]),
    st.sampled_from([443, 5432]),
    st.sampled_from(surface.TLS),
    st.sampled_from(["manifest", "operator"]),
    st.booleans(),
)
SURFACES = st.builds(
    lambda ways, scopes, classification: Surface(tuple(sorted(ways)), tuple(sorted(scopes)), classification),
    st.sets(WAYS, max_size=4),
    st.sets(st.sampled_from("rwx")),
    st.sampled_from(CLASSIFICATIONS),
)


@given(SURFACES, SURFACES, SURFACES)
def test_agreement_carries_over(one: Surface, two: Surface, three: Surface) -> None:
    assert grown(one, one) == ()
    if not grown(one, two) and not grown(two, three):
        assert grown(one, three) == ()


@given(SURFACES)
def test_a_surface_survives_being_stored(one: Surface) -> None:
    assert surface.from_document(one.document()) == one
    assert surface.from_document(one.document()).sha256 == one.sha256
