"""The order of a run: what stands before what, and what is proved before what becomes true."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
import sqlalchemy as sa

import wellhead_sdk as sdk
from tests.parts import ROOT
from tests.unit.lifecycle.conftest import MANIFEST, NO_CHOICE, World
from wellhead.catalog.verify import OTHER_STARTED, VerifiedRelease
from wellhead.egress.network import AuditRecord
from wellhead.egress.policy import Policy, Rule
from wellhead.errors import AuthError, Code, RefusedError, TransientError, WellheadError
from wellhead.ids import ConnectorId, Digest, RunId
from wellhead.images.oci import ImageDigests
from wellhead.lifecycle import launch, lend, plan, record
from wellhead.lifecycle import run as lifecycle
from wellhead.lifecycle.read import MISCOUNTED, OTHER_STATE, SECRET_IN_STATE, UNCOVERED
from wellhead.lifecycle.stop import Stop
from wellhead.manifest.load import load as load_manifest
from wellhead.registry import alerts, approvals, deadletters, revocations, runs, segments, streams
from wellhead.registry.database import Database
from wellhead.registry.tables import metadata
from wellhead.secrets.base import LendRequest, Reference, SecretValue
from wellhead.session.client import Session
from wellhead.sinks.base import Segment
from wellhead.sinks.segments import Folder, Writer
from wellhead.telemetry.redact import Redactor
from wellhead_generator.connector import Generator

pytestmark = pytest.mark.slow

CODE = Code("WH-TST-001", "A test's own.")


@dataclass
class Loan:
    """What the store of these tests lends."""

    secrets: Mapping[str, SecretValue]
    accessor: str = "accessor-1"
    leases: tuple[Any, ...] = ()
    renew_at: datetime | None = None
    rotate_at: datetime | None = None
    revoked_at: datetime | None = None
    revocation_error: WellheadError | None = None


@dataclass
class Store:
    """A secret store that writes down what it is asked and what the registry knew by then."""

    world: World
    revocation_error: WellheadError | None = None
    revoked: list[str] = field(default_factory=list)

    @contextmanager
    def lend(self, request: LendRequest, note_accessor: Callable[[str], None]) -> Iterator[Loan]:
        note_accessor("accessor-1")
        self.world.tape.append(f"read, {len(self.pending())} noted")
        loan = Loan({slot: SecretValue("tops3cret", None) for slot in request.references})
        try:
            yield loan
        finally:
            self.world.tape.append("revoked")
            loan.revoked_at = datetime.now(UTC)
            loan.revocation_error = self.revocation_error

    def revoke_accessor(self, accessor: str) -> bool:
        self.revoked.append(accessor)
        return True

    def pending(self) -> list[str]:
        with self.world.database.read() as tx:
            return [item.accessor for item in revocations.all_of(tx)]


@dataclass
class Fencer:
    """A fence that writes down when it stands and when it falls."""

    world: World
    attachment: None = None
    unrecorded_names: int = 0

    @contextmanager
    def fence(self, labels: object, policy: Policy, meanwhile: Callable[[], None]) -> Iterator[Fencer]:
        meanwhile()
        self.world.tape.append("fenced")
        try:
            yield self
        finally:
            self.world.tape.append("unfenced")

    def problem(self) -> None:
        return None

    def close(self) -> list[Any]:
        return []


@pytest.fixture
def sealed(world: World) -> World:
    """A connection with a secret and one way out."""
    world.references = {"token": Reference.parse("env://TOKEN")}
    world.secrets = cast("Any", Store(world))
    world.policy = Policy((Rule("db.example", 5432),))
    world.fencer = Fencer(world)
    return world


def test_the_connector_ends_before_its_fence_and_its_fence_before_its_secrets(sealed: World) -> None:
    assert sealed.run(sealed.connect(config={"rows": 1})).exit_code == 0
    assert sealed.tape == ["reaped", "read, 1 noted", "fenced", "started", "stopped", "unfenced", "revoked"]


def test_the_accessor_is_stored_before_a_secret_is_read(sealed: World) -> None:
    sealed.run(sealed.connect(config={"rows": 1}))
    assert sealed.tape[1] == "read, 1 noted"


@pytest.mark.parametrize("fault", [{}, {"fail_at": 0, "fail_as": "fatal"}], ids=["succeeded", "failed"])
def test_a_loan_that_was_revoked_is_forgotten_however_the_run_ended(sealed: World, fault: dict[str, Any]) -> None:
    report = sealed.run(sealed.connect(config={"rows": 1, **fault}))
    assert cast("Any", sealed.secrets).pending() == []
    with sealed.database.read() as tx:
        told = [event.event for event in runs.events(tx, runs.get(tx, cast("Any", report.run_id)).run_id)]
    assert "secrets.revoked" in told


def test_a_loan_that_could_not_be_revoked_is_revoked_by_the_next_run(sealed: World) -> None:
    store = Store(sealed, TransientError("sealed", code=CODE))
    sealed.secrets = cast("Any", store)
    file = sealed.connect(config={"rows": 1})
    assert sealed.run(file).exit_code == 0
    assert store.pending() == ["accessor-1"]
    store.revocation_error = None
    sealed.run(file)
    assert store.revoked == ["accessor-1"]


def test_a_probe_whose_process_is_gone_is_closed_and_one_that_goes_on_is_not(world: World) -> None:
    file = world.connect(config={"rows": 1})
    now = datetime.now(UTC)
    for run_id, spoke_at in (("0-dead", now - timedelta(minutes=3)), ("0-alive", now)):
        clock = SimpleNamespace(now=lambda at=spoke_at: at)
        database = Database.open(f"sqlite:///{world.folder}/registry.db", clock=cast("Any", clock))
        with database.transaction() as tx:
            runs.start(tx, runs.Start(RunId(run_id), file.key, "probe", "host-1", ConnectorId("dev/generator")))
        database.close()
    assert world.run(file).exit_code == 0
    with world.database.read() as tx:
        assert [runs.get(tx, RunId(run_id)).status for run_id in ("0-dead", "0-alive")] == ["lost", "running"]


def test_a_token_of_a_run_long_ago_is_revoked_and_that_of_another_connection_is_not(sealed: World) -> None:
    store = cast("Any", sealed.secrets)
    file = sealed.connect(config={"rows": 1})
    sealed.run(file)
    other = replace(file.key, name="others")
    with sealed.database.transaction() as tx:
        for number, key in enumerate([file.key, other, *[file.key] * 60]):
            runs.start(tx, runs.Start(RunId(f"0-dead-{number:02}"), key, "run", "host-1", ConnectorId("d/g"), 1))
        runs.finish(tx, RunId("0-dead-01"), runs.Outcome("failed", 70))
        for number in range(2):
            revocations.add(tx, f"accessor-{number:02}", RunId(f"0-dead-{number:02}"), ttl_s=60)
    sealed.run(file)
    assert store.revoked == ["accessor-00"]
    assert store.pending() == ["accessor-01"]


class Leaky(sdk.Connector):
    """Plans with a secret in the descriptor of a unit, or in the final state."""

    schema = pa.schema([("id", pa.int64())])
    final = False

    def authenticate(self, config: Any, secrets: Mapping[str, str]) -> str:
        return secrets["token"]

    def discover(self, session: str) -> Iterator[sdk.Stream]:
        yield sdk.Stream("rows", schema=self.schema, primary_key=["id"])

    def plan(self, session: str, request: sdk.ReadRequest) -> sdk.Plan:
        places = [{"token": session}, {}]
        described, final = reversed(places) if self.final else places
        return sdk.Plan(units=(sdk.Unit("part", described),), final_state=final)

    def read(self, session: str, request: sdk.ReadRequest, out: sdk.Out) -> None:
        raise AssertionError("a plan that cannot be stored is not read")


@pytest.mark.parametrize(("final", "where"), [(False, "a unit"), (True, "the final state")])
def test_a_secret_in_a_plan_is_not_stored(
    sealed: World, monkeypatch: pytest.MonkeyPatch, final: bool, where: str
) -> None:
    monkeypatch.setattr(plan.Plan, "sensitive", frozenset({"token"}))
    monkeypatch.setattr(Leaky, "final", final)
    sealed.connector = Leaky
    report = sealed.run(sealed.connect("rows"))
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (70, SECRET_IN_STATE.name)
    assert report.error.message.startswith(where)
    assert sealed.units() == {}


class Newer(Generator):
    """Writes states of a format that its manifest does not name."""

    state_version = 2


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_state_of_a_format_the_manifest_does_not_name_is_not_stored(world: World, partitions: int) -> None:
    """With partitions it is the final state of the plan."""
    world.connector = Newer
    report = world.run(
        world.connect({"name": "rows", "mode": "incremental"}, config={"rows": 9, "partitions": partitions})
    )
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (70, OTHER_STATE.name)
    assert "version 2 for rows" in report.error.message
    assert [unit.state for unit in world.units().values()] in ([b""], [])


def test_a_secret_is_struck_from_what_the_run_tells(sealed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Session, credentials: object) -> None:
        raise AuthError("the source does not know tops3cret", code=CODE)

    monkeypatch.setattr(Session, "authenticate", refuse)
    monkeypatch.setattr(plan.Plan, "sensitive", frozenset({"token"}))
    report = sealed.run(sealed.connect(config={"rows": 1}))
    assert report.exit_code == 77
    assert report.error is not None
    assert "tops3cret" not in report.error.message


def test_a_secret_is_struck_from_what_a_probe_tells(sealed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Session, credentials: object) -> None:
        raise AuthError("the source does not know tops3cret", code=CODE)

    monkeypatch.setattr(Session, "authenticate", refuse)
    monkeypatch.setattr(plan.Plan, "sensitive", frozenset({"token"}))
    asked = lifecycle.probe(sealed.host(), sealed.connect(config={"rows": 1}), Stop(), lifecycle.Watch())
    with pytest.raises(AuthError, match=r"does not know \*\*\*"), asked:
        pytest.fail("it was let in")


class Talkative(sdk.Connector):
    """Says its secret wherever a connector has words of its own, but not in a record."""

    token = ""

    def authenticate(self, config: Any, secrets: Mapping[str, str]) -> Any:
        type(self).token = secrets["token"]

    def identify(self, session: Any) -> sdk.Identity:
        return sdk.Identity(f"we are {self.token}", (f"may {self.token}",))

    def probes(self, session: Any) -> dict[str, Callable[[], str]]:
        return {f"login with {self.token}": lambda: f"as {self.token}"}

    def discover(self, session: Any) -> Iterator[sdk.Stream]:
        inner = pa.struct([pa.field(f"in {self.token}", pa.int64())])
        fields = [pa.field(f"of {self.token}", pa.int64()), pa.field("deep", inner)]
        yield sdk.Stream("rows", schema=pa.schema(fields), primary_key=[f"of {self.token}"])

    def read(self, session: Any, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.log("warning", f"we have {self.token}", said=self.token)
        out.reject(b"x", reason=self.token, column=f"of {self.token}", text=self.token, key={"id": self.token})


def _everything(database: Database) -> str:
    with database.read() as tx:
        rows = [row for table in metadata.sorted_tables for row in tx.execute(sa.select(table))]
    return "\n".join(map(repr, rows))


def test_no_word_of_a_connector_brings_a_secret_into_the_registry(
    sealed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan.Plan, "sensitive", frozenset({"token"}))
    asked = AuditRecord(
        datetime(2026, 1, 2, tzinfo=UTC), "connect", "tops3cret.example", 443, None, False, "not_listed", 0, 0, 1.0
    )
    monkeypatch.setattr(Fencer, "close", lambda _: [asked])
    sealed.configure(dead_letters={"max_rows": 1})
    sealed.run(sealed.connect(config={"rows": 1}))
    sealed.connector = Talkative
    report = sealed.run(sealed.connect())
    assert (report.exit_code, report.streams[0].dead_letters) == (0, 1)
    everything = _everything(sealed.database)
    said = everything + repr(report) + sealed.host().log_file(RunId(report.run_id)).read_text()
    # In no form: the receipt is signed as base64.
    known = Redactor()
    known.add("tops3cret")
    assert known.text(said) == said
    # Each of its words is there, without the secret in it.
    for word in ("'***'", "of ***", "+of *********", "***.example", "we have ***"):
        assert word in said


def test_a_secret_that_is_told_as_a_hash_is_not_stored(sealed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.Plan, "sensitive", frozenset({"token"}))
    monkeypatch.setattr("wellhead_sdk.out.sample_of", lambda row: (b"tops3cret", b"", len(row)))
    sealed.configure(dead_letters={"max_rows": 1})
    sealed.connector = Talkative
    assert sealed.run(sealed.connect()).exit_code == 0
    with sealed.database.read() as tx:
        assert [each.rejected.sha256 for each in deadletters.latest(tx, sealed.key().connection)] == ["***"]


def test_names_and_digests_that_only_look_like_a_secret_are_kept(
    sealed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lend, "_expect", lambda here, _: here.redactor.add_pattern("[a-z0-9 ]{3,}"))
    sealed.configure(dead_letters={"max_rows": 1})
    sealed.connector = Talkative
    assert sealed.run(sealed.connect()).exit_code == 0
    with sealed.database.read() as tx:
        (letter,) = deadletters.latest(tx, sealed.key().connection)
        (stream,) = streams.all_of(tx, sealed.key().connection)
    assert letter.rejected.sha256 == hashlib.sha256(b"x").hexdigest()
    assert (letter.rejected.reason, letter.rejected.column) == ("***", "***")
    assert stream.shape.primary_key == ("of tops3cret",)


def test_a_checkpoint_that_only_looks_like_a_secret_is_shown() -> None:
    redactor = Redactor()
    redactor.add("tops3cret")
    redactor.add_pattern("[a-z0-9]{3,}")
    here = SimpleNamespace(redactor=redactor)
    assert record._shown(cast("Any", here), b"page 0123456789 of tops3cret") == "page 0123456789 of ***"


def test_a_schema_is_compared_by_what_it_is_and_not_by_what_is_kept_of_it(
    sealed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan.Plan, "sensitive", frozenset({"token"}))
    sealed.configure(dead_letters={"max_rows": 1})
    sealed.connector = Talkative
    for _ in range(2):
        assert sealed.run(sealed.connect()).exit_code == 0
    with sealed.database.read() as tx:
        assert len(streams.all_of(tx, sealed.key().connection)) == 1
        assert alerts.latest(tx) == []


def test_who_we_are_is_told_to_whoever_looks_without_secrets(sealed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.Plan, "sensitive", frozenset({"token"}))
    sealed.connector = Talkative
    opened = lifecycle.probe(sealed.host(), sealed.connect(), Stop(), lifecycle.Watch())
    with opened as (_, _plan, _session, identity):
        assert "tops3cret" not in repr(identity)
        assert (identity.identity, identity.probes[0].detail) == ("we are ***", "as ***")


class Unknown(Generator):
    """Knows nobody, and says whom."""

    def authenticate(self, config: Any, secrets: Mapping[str, str]) -> Any:
        raise sdk.Auth(f"there is no role {secrets['token']}")


@pytest.mark.parametrize(("sensitive", "said"), [((), "no role tops3cret"), (("token",), "no role •••")])
def test_the_connector_is_told_which_slots_hold_no_secret(
    sealed: World, monkeypatch: pytest.MonkeyPatch, sensitive: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(plan.Plan, "sensitive", frozenset(sensitive))
    sealed.connector = Unknown
    report = sealed.run(sealed.connect(config={"rows": 1}))
    assert report.error is not None
    assert said in report.error.message


def test_a_checkpoint_is_sent_only_for_what_the_registry_holds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.configure(commit={"max_bytes": 1})
    deliver, seen = Session.checkpoint, []

    def checkpoint(self: Session, committed: Any) -> None:
        unit = world.units()[committed.unit]
        seen.append(unit.commit_no == committed.commit_no and unit.state == committed.state)
        deliver(self, committed)

    monkeypatch.setattr(Session, "checkpoint", checkpoint)
    world.run(world.connect({"name": "rows", "batch_size": 10}, config={"rows": 40}))
    assert len(seen) >= 4
    assert all(seen)


def test_a_file_enters_its_table_only_once_the_registry_holds_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.configure(commit={"max_bytes": 1})
    publish, seen = Folder.publish, []

    def published(self: Folder, segment: Segment) -> None:
        with world.database.read() as tx:
            seen.append(segment.name in segments.names(tx, segment.key.stream.connection))
        publish(self, segment)

    monkeypatch.setattr(Folder, "publish", published)
    report = world.run(world.connect({"name": "rows", "batch_size": 10}, config={"rows": 40}))
    assert report.exit_code == 0
    assert len(seen) >= 4
    assert all(seen)


def test_a_sink_that_loses_rows_ends_the_run_before_its_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = Writer.finish
    monkeypatch.setattr(Writer, "finish", lambda self, footer: replace(finish(self, footer), rows=9))
    report = world.run(world.connect(config={"rows": 10}))
    assert report.exit_code == 70
    assert report.error is not None
    assert report.error.code == MISCOUNTED.name
    assert world.units()["all"].rows_total == 0


class Uncovered(sdk.Connector):
    """Offers nothing after its last rows, which only a connector without our SDK could do."""

    schema = pa.schema([("id", pa.int64())])

    def authenticate(self, config: Any, secrets: Mapping[str, str]) -> None:
        return None

    def discover(self, session: None) -> Iterator[sdk.Stream]:
        yield sdk.Stream("rows", schema=self.schema, primary_key=["id"])

    def read(self, session: None, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.emit([{"id": 1}])
        out.checkpoint({"next": 1})
        out.emit([{"id": 2}])


def test_rows_after_the_last_checkpoint_of_a_complete_unit_end_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = sdk.Out._offer
    offers: list[object] = []

    def first_alone(self: sdk.Out, *arguments: Any) -> None:
        for _ in range(not offers):
            offers.append(arguments)
            offer(self, *arguments)

    monkeypatch.setattr(sdk.Out, "_offer", first_alone)
    world.connector = Uncovered
    report = world.run(world.connect("rows"))
    assert report.exit_code == 70
    assert report.error is not None
    assert report.error.code == UNCOVERED.name
    assert world.units()["all"].rows_total == 0


def test_a_host_that_is_not_approved_refuses_the_run() -> None:
    with pytest.raises(RefusedError, match=r"db\.example:5432") as caught:
        plan._require_approvals("flights", Policy((Rule("db.example", 5432, approved=False),)))
    assert caught.value.code == plan.NEEDS_APPROVAL
    assert "wellhead connection approve flights db.example:5432" in (caught.value.hint or "")


def test_a_host_approved_for_another_connector_refuses_the_run(world: World) -> None:
    manifest = load_manifest(ROOT / "connectors" / "postgres" / "manifest.yaml")
    connector = ConnectorId(manifest.manifest.metadata.id)
    release = VerifiedRelease(connector, "1.0.0", Digest("sha256:1"), manifest.manifest, manifest.sha256, {}, ())
    file = world.connect(
        connector=connector,
        config={"host": "db.example", "database": "x"},
        secrets={slot: f"env://{slot.upper()}" for slot in ("username", "password")},
    )

    def approve(other: ConnectorId) -> None:
        with world.database.transaction() as tx:
            approvals.approve(tx, file.key, other, "db.example", 5432, who="op", reason="asked for")

    approve(ConnectorId("dev/generator"))
    with pytest.raises(RefusedError, match=r"db\.example:5432"):
        plan._plan(world.host(), file, NO_CHOICE, release, "linux/amd64")
    approve(connector)
    planned = plan._plan(world.host(), file, NO_CHOICE, release, "linux/amd64")
    assert [(rule.host, rule.approved) for rule in planned.policy.rules] == [("db.example", True)]


def test_an_image_that_was_not_signed_is_refused() -> None:
    images = {"linux/amd64": ImageDigests(Digest("sha256:manifest"), Digest("sha256:config"))}
    release = VerifiedRelease(
        ConnectorId("dev/generator"), "1.0.0", Digest("sha256:1"), MANIFEST.manifest, MANIFEST.sha256, images, ()
    )
    engine = SimpleNamespace(image_exists=lambda _: False, load=lambda _: "sha256:other")
    here = SimpleNamespace(
        host=SimpleNamespace(engine=lambda: engine, layout=lambda: None), timeline=SimpleNamespace(step=_step)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wellhead.images.engine_tar.chunks", lambda *_: None)
        with pytest.raises(RefusedError) as caught:
            launch.loaded_image(
                cast("Any", here), cast("Any", SimpleNamespace(release=release, platform="linux/amd64"))
            )
    assert caught.value.code == OTHER_STARTED


@contextmanager
def _step(_name: str) -> Iterator[None]:
    yield
