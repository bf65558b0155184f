"""Names, rules and the policy's document."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.egress.policy import Grant, Policy, Rule, UnusableNameError, normalise

API = Rule("api.good.test", 443, tls=True)
POLICY = Policy(
    rules=(
        API,
        Rule("*.files.good.test", 443, tls=True),
        Rule("pg.good.test", 5432, private=True),
        Rule("tenant.good.test", 8443, approved=False),
    ),
    hosts={"pg.good.test": ip_address("10.1.2.3")},
    grants=(Grant(ip_network("10.1.2.3/32"), (5432,)),),
)

ALLOWED = [
    ("api.good.test", 443),
    ("API.Good.TEST", 443),
    ("api.good.test.", 443),
    ("a.files.good.test", 443),
    ("a-b_c.files.good.test", 443),
    ("pg.good.test", 5432),
]

DENIED = [
    ("api.good.test", 80, "unlisted_port"),
    ("api.good.test", 0, "invalid_port"),
    ("api.good.test", 65536, "invalid_port"),
    ("api.good.test..", 443, "invalid_name"),
    (".api.good.test", 443, "invalid_name"),
    ("api..good.test", 443, "invalid_name"),
    ("evil.test", 443, "unlisted_host"),
    ("good.test", 443, "unlisted_host"),
    ("xapi.good.test", 443, "unlisted_host"),
    ("api.good.test.evil.test", 443, "unlisted_host"),
    ("sub.api.good.test", 443, "unlisted_host"),
    ("files.good.test", 443, "unlisted_host"),
    ("a.b.files.good.test", 443, "unlisted_host"),
    ("*.files.good.test", 443, "invalid_name"),
    ("tenant.good.test", 8443, "needs_approval"),
    ("tenant.good.test", 443, "unlisted_port"),
    ("api.good.test\x00.evil.test", 443, "invalid_name"),
    ("api.good.test\n", 443, "invalid_name"),
    (" api.good.test", 443, "invalid_name"),
    ("api.good.test/", 443, "invalid_name"),
    ("user@api.good.test", 443, "invalid_name"),
    ("api.good.test:443", 443, "invalid_name"),
    ("api%2egood.test", 443, "invalid_name"),
    ("api。good.test", 443, "not_ascii"),
    ("bücher.test", 443, "not_ascii"),
    ("ＡＰＩ.good.test", 443, "not_ascii"),  # noqa: RUF001 - fullwidth letters are the case
    ("", 443, "invalid_name"),
    (".", 443, "invalid_name"),
    ("-a.files.good.test", 443, "invalid_name"),
    ("a-.files.good.test", 443, "invalid_name"),
    (f"{'a' * 64}.files.good.test", 443, "invalid_name"),
    (f"{'a.' * 130}files.good.test", 443, "invalid_name"),
    ("127.0.0.1", 443, "literal_address"),
    ("127.0.0.1.", 443, "literal_address"),
    ("127.1", 443, "literal_address"),
    ("2130706433", 443, "literal_address"),
    ("0x7f000001", 443, "literal_address"),
    ("0x7f.1", 443, "literal_address"),
    ("0177.0.0.1", 443, "literal_address"),
    ("[::1]", 443, "literal_address"),
    ("::1", 443, "literal_address"),
    ("::ffff:127.0.0.1", 443, "literal_address"),
]


@pytest.mark.parametrize(("host", "port"), ALLOWED)
def test_a_listed_host_and_port_is_allowed(host: str, port: int) -> None:
    decision = POLICY.decide(host, port)
    assert (decision.allowed, decision.reason) == (True, "listed")


@pytest.mark.parametrize(("host", "port", "reason"), DENIED)
def test_everything_else_is_denied_with_its_reason(host: str, port: int, reason: str) -> None:
    decision = POLICY.decide(host, port)
    assert (decision.allowed, decision.reason) == (False, reason)


def test_an_exact_rule_wins_over_a_wildcard_so_that_its_sni_check_holds() -> None:
    exact = Rule("a.good.test", 443, tls=True)
    policy = Policy(rules=(Rule("*.good.test", 443), exact))
    assert policy.decide("a.good.test", 443).rule == exact


def test_of_two_equal_names_the_one_with_the_sni_check_holds() -> None:
    strict = Rule("a.good.test", 443, tls=True)
    assert Policy(rules=(Rule("a.good.test", 443), strict)).decide("a.good.test", 443).rule == strict


def test_a_rule_is_refused_when_its_host_is_no_name() -> None:
    with pytest.raises(UnusableNameError, match="literal_address"):
        Rule("10.0.0.1", 443)
    with pytest.raises(UnusableNameError, match="invalid_name"):
        Rule("a.*.test", 443)
    with pytest.raises(UnusableNameError, match="invalid_name"):
        Rule("*", 443)
    with pytest.raises(ValueError, match="not a TCP port"):
        Rule("good.test", 0)


def test_a_grant_holds_for_its_ports_and_for_private_rules_alone() -> None:
    granted = ip_address("10.1.2.3")
    assert POLICY.judge(POLICY.rules[2], granted).reason == "granted"
    assert POLICY.judge(Rule("pg.good.test", 5433, private=True), granted).reason == "private"
    assert POLICY.judge(Rule("pg.good.test", 5432), granted).reason == "private"


def test_a_policy_whose_hosts_all_wait_for_approval_opens_nothing() -> None:
    assert Policy(rules=(Rule("a.test", 1, approved=False),)).opens_nothing
    assert Policy().opens_nothing
    assert not POLICY.opens_nothing


def test_a_host_that_waits_for_approval_is_not_listed() -> None:
    assert not POLICY.is_listed("tenant.good.test")
    assert POLICY.is_listed("api.good.test")


def test_a_policy_comes_back_from_its_document_unchanged() -> None:
    assert Policy.from_json(POLICY.to_json()) == POLICY


@pytest.mark.parametrize("path", [(), ("rules", 0), ("grants", 0)], ids=str)
def test_a_document_with_an_unknown_key_is_refused(path: tuple[str | int, ...]) -> None:
    document = json.loads(POLICY.to_json())
    place = document
    for key in path:
        place = place[key]
    place["only_on_sundays"] = True
    with pytest.raises(ValueError, match="exactly the keys"):
        Policy.from_json(json.dumps(document))


@given(host=st.text(max_size=80), port=st.integers(-1, 70000))
def test_any_text_gets_a_decision_and_only_listed_names_are_allowed(host: str, port: int) -> None:
    decision = POLICY.decide(host, port)
    assert not decision.allowed or POLICY.is_listed(host.lower().removesuffix("."))


@given(name=st.from_regex(r"([a-z0-9]{1,5}\.){0,3}[a-z]{1,5}", fullmatch=True))
def test_normal_form_is_stable(name: str) -> None:
    assert normalise(normalise(name.upper() + ".")) == name
