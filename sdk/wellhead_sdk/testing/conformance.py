"""The suite every connector passes, to be derived from in a connector's own tests.

    class TestOrders(Conformance):
        connector = Orders
        config = {"host": "127.0.0.1"}
        secrets = {"password": "p"}
        streams = ("orders",)

It needs a source that stands still while a test runs. pytest finds the `test_` methods; nothing here imports it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from wellhead_sdk.connector import Connector
from wellhead_sdk.cursor import row_hashes
from wellhead_sdk.testing.harness import Broken, Conversation, Failed, Reading, running
from wellhead_sdk.wire import messages as m

#: A read is cut off at its first checkpoints only: beyond that one learns nothing new.
CUTS = 5


class Conformance:
    """What any host may rely on. Every read starts a fresh connector object, as every run does."""

    connector: ClassVar[type[Connector]]
    config: ClassVar[Mapping[str, Any]] = {}
    secrets: ClassVar[Mapping[str, str]] = {}
    #: Streams to read; all offered ones where none are named.
    streams: ClassVar[Sequence[str]] = ()

    @contextmanager
    def started(self) -> Iterator[Conversation]:
        """Start the connector; override it to reach one that runs elsewhere."""
        with running(self.connector(), self.config, self.secrets) as conversation:
            yield conversation

    def test_describe_needs_no_secrets_and_answers_twice_alike(self) -> None:
        """Describe is the heartbeat too."""
        with self.started() as conversation:
            first, second = conversation.describe(), conversation.describe()
        _require(first == second and first.protocol_version in m.PROTOCOL_VERSIONS, f"{first} and {second}")

    def test_a_host_of_an_unknown_protocol_is_told_so(self) -> None:
        """No common version is version 0, not a guess."""
        with self.started() as conversation:
            _require(conversation.describe((9999,)).protocol_version == 0, "a version was chosen that is unknown")

    def test_each_stream_is_described_by_name_as_in_the_list(self) -> None:
        """One stream can be asked for alone (F10)."""
        with self.started() as conversation:
            offered = conversation.discover()
            _require(bool(offered), "no stream is offered")
            for name in self._chosen(offered):
                _require(conversation.discover(name) == {name: offered[name]}, f"{name!r} differs when asked for alone")

    def test_an_unknown_stream_is_refused(self) -> None:
        """A typing error is a configuration error, not an empty stream."""
        with self.started() as conversation:
            failure = _failure_of(lambda: conversation.discover("no such stream, surely"))
        _require(failure.kind == "permanent" and failure.reason == "not_found", f"refused as {failure}")

    def test_a_mode_that_is_not_offered_is_refused(self) -> None:
        """Asking for incremental where it is not supported is a clear error (F5)."""
        with self.started() as conversation:
            for name, stream in conversation.discover().items():
                if m.SyncMode.INCREMENTAL not in stream.sync_modes:
                    failure = _failure_of(partial(conversation.plan, _order(name, m.SyncMode.INCREMENTAL)))
                    _require(failure.kind == "permanent", f"refused as {failure}")

    def test_two_full_reads_are_equal(self) -> None:
        """A connector keeps nothing: reading again gives the same records (A11)."""
        for name in self._names(m.SyncMode.FULL_REFRESH):
            _require(self._read_all(name) == self._read_all(name), f"two reads of {name!r} differ")

    def test_records_have_the_offered_schema(self) -> None:
        """What Discover says is what Read sends."""
        for name in self._names(m.SyncMode.FULL_REFRESH):
            with self.started() as conversation:
                offered = conversation.discover(name)[name].schema
                for reading in conversation.read(name).values():
                    same = reading.schema is not None and reading.schema.equals(offered, check_metadata=True)
                    _require(same, f"{name!r} sends another schema than it offers")

    def test_chosen_columns_come_alone_and_in_order(self) -> None:
        """The first and the last column, turned round."""
        for name in self._names(m.SyncMode.FULL_REFRESH):
            with self.started() as conversation:
                names = conversation.discover(name)[name].schema.names
                wanted = tuple(dict.fromkeys((names[-1], names[0])))
                for reading in conversation.read(name, columns=wanted).values():
                    _require(reading.schema is not None and tuple(reading.schema.names) == wanted, f"not {wanted}")

    def test_a_read_cut_at_any_checkpoint_goes_on_without_loss_or_repetition(self) -> None:
        """Checkpoints are exact (E5): covered up to there, and the rest from there."""
        for name in self._names(m.SyncMode.FULL_REFRESH):
            whole = self._read_all(name)
            for cut in range(1, CUTS + 1):
                with self.started() as conversation:
                    first = conversation.read(name, cut_after=cut)
                stopped = [reading for reading in first.values() if reading.done is None]
                if not stopped:
                    break
                with self.started() as conversation:
                    rest = conversation.read(name, units=tuple(reading.rest for reading in stopped))
                found = _multiset(first.values()) + _multiset(rest.values())
                _require(found == whole, f"{name!r} cut at checkpoint {cut} and resumed is not the whole")

    def test_a_read_asked_to_drain_ends_in_order(self) -> None:
        """Stopping is not failing: a checkpoint, then done, and what is covered is not read again."""
        for name in self._names(m.SyncMode.FULL_REFRESH):
            whole = self._read_all(name)
            with self.started() as conversation:
                first = conversation.read(name, drain_after=1)
            units = tuple(
                reading.rest
                for reading in first.values()
                if reading.done is not None and reading.done.reason is m.DoneReason.STOPPED
            )
            with self.started() as conversation:
                rest = conversation.read(name, units=units) if units else {}
            found = _multiset(first.values()) + _multiset(rest.values())
            _require(found == whole, f"{name!r} drained and resumed is not the whole")

    def test_a_commit_is_taken_by_a_fresh_process_and_twice(self) -> None:
        """The host repeats Checkpoint for the stored state after every start."""
        for name in self._names(m.SyncMode.FULL_REFRESH):
            with self.started() as conversation:
                readings = conversation.read(name)
            with self.started() as conversation:
                conversation.plan(_order(name, m.SyncMode.FULL_REFRESH))
                for reading in readings.values():
                    conversation.commit(reading)
                    conversation.commit(reading)

    def test_states_are_json_objects_or_bytes_without_secrets(self) -> None:
        """A state is stored in the clear."""
        for name in self._names(m.SyncMode.FULL_REFRESH):
            with self.started() as conversation:
                for reading in conversation.read(name).values():
                    for checkpoint in reading.checkpoints:
                        for slot, value in self.secrets.items():
                            _require(
                                len(value) < 4 or value.encode() not in checkpoint.state,
                                f"the secret {slot!r} is in a state",
                            )

    def test_a_missing_or_wrong_config_is_refused_with_every_field(self) -> None:
        """Validation reports every mistake at once (F2)."""
        required = [name for name, field in self.connector.Config.model_fields.items() if field.is_required()]
        with self.started() as conversation:
            if required:
                failure = _failure_of(lambda: conversation.authenticate({}, self.secrets))
                named = {field for field, _ in failure.fields}
                _require(set(required) <= named or len(named) == 8, f"named are {named}, missing were {required}")
            unknown = {**json.loads(json.dumps(dict(self.config))), "no_such_setting_surely": 1}
            if self.connector.Config.model_config.get("extra") == "forbid":
                failure = _failure_of(lambda: conversation.authenticate(unknown, self.secrets))
                _require(failure.kind == "permanent", f"refused as {failure}")

    # within

    def _chosen(self, offered: Mapping[str, m.OfferedStream]) -> Sequence[str]:
        return self.streams or tuple(offered)

    def _names(self, mode: m.SyncMode) -> list[str]:
        with self.started() as conversation:
            offered = conversation.discover()
        return [name for name in self._chosen(offered) if mode in offered[name].sync_modes]

    def _read_all(self, name: str) -> Counter[bytes]:
        with self.started() as conversation:
            return _multiset(conversation.read(name).values())


def _order(name: str, mode: m.SyncMode) -> m.ReadOrder:
    return m.ReadOrder("", name, mode)


def _multiset(readings: Iterable[Reading]) -> Counter[bytes]:
    """Return the records of ``readings``, whatever their order, by a hash of their whole content."""
    return Counter(row for reading in readings for batch in reading.batches for row in row_hashes(batch))


def _failure_of(ask: Callable[[], object]) -> m.Failure:
    try:
        ask()
    except Failed as failed:
        return failed.failure
    raise Broken("what cannot be was not refused")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)
