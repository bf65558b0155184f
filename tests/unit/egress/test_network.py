"""The host's side of a fence, as far as it needs no Engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.containers import labels
from tests.parts import wait_until
from wellhead.egress import network
from wellhead.egress.network import Fencer, FenceSettings, host_resolver, policy_of
from wellhead.egress.policy import Policy, Rule
from wellhead.engine.client import ConflictError, Engine, Network, NetworkSpec
from wellhead.errors import ConfigurationError, TransientError, WellheadError
from wellhead.manifest.egress import EgressEntry

SETTINGS = FenceSettings(slots=IPv4Network("198.18.0.0/22"), outbound_subnet=IPv4Network("172.31.255.0/24"))
routes_of = network._routes  # before a test puts other routes in their place
ICC = {"com.docker.network.bridge.enable_icc": "false"}


class Tape:
    """An Engine that has these networks, and writes down which ones are asked for."""

    def __init__(self, *networks: Network, conflicts: int = 0, listed_after: int = 0) -> None:
        self.created: list[NetworkSpec] = []
        self._networks = list(networks)
        self._conflicts = conflicts
        self._unlisted = listed_after

    def networks(self) -> list[Network]:
        self._unlisted -= 1
        return self._networks if self._unlisted < 0 else []

    def create_network(self, spec: NetworkSpec) -> str:
        if self._conflicts:
            self._conflicts -= 1
            raise ConflictError("Pool overlaps with other one", code=network.NO_SLOT)
        self.created.append(spec)
        return "made"


def engine(*networks: Network, conflicts: int = 0, listed_after: int = 0) -> tuple[Engine, Tape]:
    tape = Tape(*networks, conflicts=conflicts, listed_after=listed_after)
    return cast(Engine, tape), tape


def bridge(name: str, subnet: str, options: dict[str, str] | None = None, internal: bool = False) -> Network:
    return Network(name, name, (IPv4Network(subnet),), options or {}, internal, None)


@pytest.fixture(autouse=True)
def no_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose only routes are those of the Engine's networks."""
    monkeypatch.setattr(network, "_routes", list)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "BETWEEN_S", 0)


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with a route to the outbound subnet."""
    monkeypatch.setattr(network, "_routes", lambda: [SETTINGS.outbound_subnet])


def test_a_free_slot_is_taken_without_an_address_of_the_hosts() -> None:
    taken = [bridge(f"n{number}", f"198.18.{number}.0/24") for number in (0, 1, 3)]
    connected, tape = engine(*taken)
    assert network._take_slot(connected, SETTINGS, labels(), "wh-x")[1] == IPv4Network("198.18.2.0/24")
    [spec] = tape.created
    assert spec.internal
    assert spec.options["com.docker.network.bridge.inhibit_ipv4"] == "true"
    assert spec.options["com.docker.network.bridge.gateway_mode_ipv4"] == "isolated"
    assert spec.range == IPv4Network("198.18.2.0/26")


def test_a_slot_somebody_else_took_meanwhile_is_replaced_by_another() -> None:
    connected, tape = engine(conflicts=network.TRIES - 1)
    network._take_slot(connected, SETTINGS, labels(), "wh-x")
    assert len(tape.created) == 1


def test_without_a_free_slot_a_run_waits_for_another_time() -> None:
    connected, _ = engine(bridge("all", "198.18.0.0/16"))
    with pytest.raises(TransientError) as caught:
        network._take_slot(connected, SETTINGS, labels(), "wh-x")
    assert caught.value.code is network.NO_SLOT


def test_slots_too_small_for_a_run_are_refused() -> None:
    settings = FenceSettings(IPv4Network("198.18.0.0/25"), IPv4Network("172.31.255.0/24"))
    with pytest.raises(ConfigurationError, match="holds no /24"):
        network._take_slot(engine()[0], settings, labels(), "wh-x")


def test_the_outbound_bridge_keeps_gateways_apart() -> None:
    connected, tape = engine()
    assert network.ensure_outbound(connected, SETTINGS) == "made"
    [spec] = tape.created
    assert (spec.name, spec.subnet, spec.internal) == ("wellhead-out", IPv4Network("172.31.255.0/24"), False)
    assert spec.options["com.docker.network.bridge.enable_icc"] == "false"


def test_the_outbound_bridge_is_kept_where_it_is_as_it_should_be() -> None:
    connected, tape = engine(bridge("wellhead-out", "172.31.255.0/24", ICC))
    assert network.ensure_outbound(connected, SETTINGS) == "wellhead-out"
    assert tape.created == []


@pytest.mark.parametrize(
    "found",
    [
        bridge("wellhead-out", "172.31.0.0/24", ICC),
        bridge("wellhead-out", "172.31.255.0/24"),
        bridge("wellhead-out", "172.31.255.0/24", ICC, internal=True),
        bridge("office", "172.31.0.0/16"),
    ],
    ids=["other subnet", "gateways see each other", "no way out", "overlap"],
)
def test_an_outbound_network_that_is_not_ours_is_refused(found: Network) -> None:
    with pytest.raises(ConfigurationError) as caught:
        network.ensure_outbound(engine(found)[0], SETTINGS)
    assert caught.value.code is network.OUTBOUND_TAKEN


@pytest.mark.usefixtures("routed")
def test_an_outbound_bridge_that_another_run_is_making_is_waited_for() -> None:
    ours = bridge("wellhead-out", "172.31.255.0/24", ICC)
    connected, tape = engine(ours, listed_after=network.TRIES - 1)
    assert network.ensure_outbound(connected, SETTINGS) == "wellhead-out"
    assert tape.created == []


def test_an_outbound_bridge_that_another_run_made_first_is_used() -> None:
    ours = bridge("wellhead-out", "172.31.255.0/24", ICC)
    connected, tape = engine(ours, conflicts=network.TRIES, listed_after=network.TRIES - 1)
    assert network.ensure_outbound(connected, SETTINGS) == "wellhead-out"
    assert tape.created == []


@pytest.mark.usefixtures("routed")
def test_a_route_of_the_hosts_own_to_the_outbound_subnet_is_told() -> None:
    connected, tape = engine()
    with pytest.raises(ConfigurationError, match=r"overlaps 172\.31\.255\.0/24") as caught:
        network.ensure_outbound(connected, SETTINGS)
    assert caught.value.code is network.OUTBOUND_TAKEN
    assert tape.created == []


ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
tun0\t00000000\t0100080A\t0003\t0\t0\t0\t00000080\t0\t0\t0
tun0\t00000080\t0100080A\t0003\t0\t0\t0\t00000080\t0\t0\t0
tun0\t0000000A\t0100080A\t0003\t0\t0\t0\t000000FF\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
eth0\t0900CB0A\t0100A8C0\t0007\t0\t0\t0\tFFFFFFFF\t0\t0\t0
"""


def test_a_vpn_that_takes_all_traffic_leaves_networks_free(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(ROUTES)
    taken = [IPv4Network("10.0.0.0/8"), IPv4Network("192.168.0.0/24"), IPv4Network("10.203.0.9/32")]
    assert routes_of(tmp_path / "route") == taken


def test_more_hosts_than_a_gateway_serves_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    rules = tuple(Rule(f"h{number}.test", 443) for number in range(network.MAX_HOSTS + 1))
    connected, tape = engine()
    fencer = Fencer(connected, lambda: "sha256:0", SETTINGS, tmp_path)
    with pytest.raises(ConfigurationError) as caught, fencer.fence(labels(), Policy(rules)):
        pass
    assert caught.value.code is network.TOO_MANY_HOSTS
    assert tape.created == []


def resolver_of(folder: Path, *texts: str) -> IPv4Address:
    files = []
    for number, text in enumerate(texts):
        files.append(folder / str(number))
        files[-1].write_text(text)
    return host_resolver([folder / "missing", *files])


def test_the_hosts_resolver_is_the_first_a_container_can_reach(tmp_path: Path) -> None:
    stub = "# a comment\nnameserver 127.0.0.53\noptions edns0\n"
    assert resolver_of(tmp_path, "nameserver 10.0.0.2\nnameserver 10.0.0.3\n") == IPv4Address("10.0.0.2")
    assert resolver_of(tmp_path, stub, "nameserver fe80::1\nnameserver 10.0.0.4\n") == IPv4Address("10.0.0.4")
    assert resolver_of(tmp_path, stub) == IPv4Address("127.0.0.11")


def entry(**changes: Any) -> EgressEntry:
    fields: dict[str, Any] = {
        "host": "api.good.test",
        "port": 443,
        "protocol": "https",
        "tls": "required",
        "open": "manifest",
        "private": False,
    }
    return EgressEntry(**{**fields, **changes})


def test_what_the_manifest_opens_becomes_a_rule_with_its_sni_check() -> None:
    assert policy_of([entry()]).rules == (Rule("api.good.test", 443, tls=True),)


@pytest.mark.parametrize("changes", [{"tls": "optional"}, {"tls": "none"}, {"protocol": "postgresql", "port": 5432}])
def test_sni_is_checked_only_where_tls_is_spoken_from_the_first_byte(changes: dict[str, Any]) -> None:
    [rule] = policy_of([entry(**changes)]).rules
    assert not rule.tls


def test_an_operators_host_is_open_only_as_approved() -> None:
    waiting = entry(open="operator", host="db.tenant.test", port=5432)
    assert not policy_of([waiting]).rules[0].approved
    assert not policy_of([waiting], [("db.tenant.test", 5433)]).rules[0].approved
    assert policy_of([waiting], [("DB.tenant.test.", 5432)]).rules[0].approved


def test_mapped_names_are_known_in_lower_case() -> None:
    policy = policy_of([entry()], hosts={"PG.demo": ip_address("172.31.255.1")})
    assert dict(policy.hosts) == {"pg.demo": ip_address("172.31.255.1")}


def test_the_gateways_image_holds_the_hosts_own_files() -> None:
    files = network.gateway_context()
    assert (
        files["opt/wellhead/wellhead/egress/gateway.py"] == Path(network.__file__).with_name("gateway.py").read_bytes()
    )
    assert files["opt/wellhead/wellhead/__init__.py"] == b""


class Gateway:
    """A container that writes these lines, the last ones once it is told to stop."""

    name = "gateway"
    is_running = True
    refusal: WellheadError | None = None

    def __init__(self, *lines: dict[str, Any], at_end: tuple[dict[str, Any], ...] = ()) -> None:
        self._lines = lines
        self._at_end = at_end
        self.told = threading.Event()

    def follow(self) -> Iterator[bytes]:
        for line in self._lines:
            yield json.dumps(line).encode()
        self.told.wait(10)
        for line in self._at_end:
            yield json.dumps(line).encode()

    def stop(self, grace_s: float) -> None:
        self.told.set()

    def inspect(self) -> Any:
        if self.refusal is not None:
            raise self.refusal
        return SimpleNamespace(running=self.is_running)


class Away(Gateway):
    """Whose Engine does not answer when it is told to stop."""

    def stop(self, grace_s: float) -> None:
        super().stop(grace_s)
        raise TransientError("the Engine does not answer", code=network.NO_SLOT)


READY = {"kind": "ready"}
DENIED = {"kind": "name", "at": 1.0, "host": "evil.test", "verdict": "deny", "reason": "unlisted_host"}
STOPPED = {"kind": "end", "reason": "stopped", "unrecorded_names": 3}


def followed(
    gateway: Gateway, until: Callable[[network._Follower], bool] = lambda _follower: True
) -> network._Follower:
    follower = network._Follower(cast(Any, gateway))
    with follower:
        follower.await_ready()
        wait_until(lambda: until(follower), what="the gateway's log has come as far", within_s=10)
    return follower


def test_a_gateway_that_says_its_last_line_leaves_no_question() -> None:
    follower = followed(Gateway(READY, at_end=(DENIED, STOPPED)))
    assert (follower.problem, follower.last) == (None, STOPPED)
    assert [record.host for record in follower.records] == ["evil.test"]


@pytest.mark.parametrize(
    ("at_end", "code"),
    [((), network.GATEWAY_ENDED), (({"kind": "end", "reason": "audit_full"},), network.AUDIT_FULL)],
    ids=["killed", "full"],
)
def test_a_record_that_breaks_off_while_the_gateway_is_stopped_is_told(
    at_end: tuple[dict[str, Any], ...], code: object
) -> None:
    follower = followed(Gateway(READY, at_end=at_end))
    assert follower.problem is not None
    assert follower.problem.code == code


def test_what_a_gateway_wrote_is_read_to_its_end_though_the_engine_is_away() -> None:
    follower = network._Follower(cast(Any, Away(READY, at_end=(DENIED, STOPPED))))
    with pytest.raises(TransientError, match="does not answer"), follower:
        follower.await_ready()
    assert (follower.problem, follower.last) == (None, STOPPED)


def test_a_record_that_breaks_off_is_told_though_the_engine_is_away() -> None:
    follower = network._Follower(cast(Any, Away(READY)))
    with pytest.raises(TransientError, match="does not answer"), follower:
        follower.await_ready()
    assert follower.problem is not None
    assert follower.problem.code == network.GATEWAY_ENDED


class Breaking(Gateway):
    """Whose log breaks off behind its lines: the first time, or where ``is_late``, while it is told to stop."""

    def __init__(self, *lines: dict[str, Any], at_end: tuple[dict[str, Any], ...] = (), is_late: bool = False) -> None:
        super().__init__(*lines, at_end=at_end)
        self.follows = 0
        self._is_late = is_late

    def follow(self) -> Iterator[bytes]:
        self.follows += 1
        if self._is_late:
            yield from super().follow()
        elif self.follows == 1:
            yield from (json.dumps(line).encode() for line in self._lines)
        else:
            yield from super().follow()
            return
        raise TransientError("the Engine does not answer", code=network.NO_SLOT)


def test_a_log_that_breaks_while_the_gateway_runs_is_read_on_and_no_line_twice() -> None:
    gateway = Breaking(READY, DENIED, at_end=(STOPPED,))
    follower = followed(gateway, until=lambda follower: gateway.follows == 2 or follower.problem is not None)
    assert (gateway.follows, follower.problem, follower.last) == (2, None, STOPPED)
    assert [record.host for record in follower.records] == ["evil.test"]


def test_a_log_that_breaks_with_an_engine_that_is_away_for_a_moment_is_read_on() -> None:
    gateway = Breaking(READY, DENIED, at_end=(STOPPED,))
    gateway.refusal = TransientError("the Engine does not answer", code=network.NO_SLOT)
    follower = followed(gateway, until=lambda follower: gateway.follows == 2 or follower.problem is not None)
    assert (follower.problem, follower.last) == (None, STOPPED)


def test_a_gateway_that_somebody_removed_has_ended() -> None:
    gateway = Breaking(READY)
    gateway.refusal = ConfigurationError("no such container", code=network.NO_SLOT)
    follower = followed(gateway, until=lambda follower: follower.problem is not None)
    assert follower.problem is not None
    assert follower.problem.code == network.GATEWAY_ENDED


def test_a_log_that_breaks_with_its_gateway_is_its_end() -> None:
    gateway = Breaking(READY)
    gateway.is_running = False
    follower = followed(gateway, until=lambda follower: follower.problem is not None)
    assert follower.problem is not None
    assert (follower.problem.code, gateway.follows) == (network.GATEWAY_ENDED, 1)


def test_a_log_that_breaks_behind_its_last_line_is_whole() -> None:
    follower = followed(Breaking(READY, at_end=(STOPPED,), is_late=True))
    assert (follower.problem, follower.last) == (None, STOPPED)


def test_a_gateway_that_has_ended_is_found_though_its_log_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "STOP_S", 0.01)
    gateway = Gateway(READY, at_end=(STOPPED,))
    follower = network._Follower(cast(Any, gateway))
    with follower:
        follower.await_ready()
        assert follower.find_problem() is None
        gateway.is_running = False
        found = follower.find_problem()
    assert found is not None
    assert found.code == network.GATEWAY_ENDED


def test_a_gateway_that_has_said_its_last_line_serves_nobody_though_it_runs() -> None:
    gateway = Gateway(READY, STOPPED)
    follower = network._Follower(cast(Any, gateway))
    follower._thread = threading.Thread(target=lambda: None)
    follower._thread.start()
    follower._take(json.dumps(STOPPED).encode())
    found = follower.find_problem()
    assert found is not None
    assert found.code == network.GATEWAY_ENDED
