"""What a connector author writes against: the class to derive from and the values that pass through its methods."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from wellhead_sdk.errors import Configuration, Fatal, PlanStale
from wellhead_sdk.wire.messages import Filter, OpenedHost, Replay, SyncMode, Until, WriteMode

if TYPE_CHECKING:
    from wellhead_sdk.out import Out

#: A state or descriptor as an author sees it: a JSON object, or bytes of the author's own making.
State: TypeAlias = dict[str, Any] | bytes

#: The unit of a stream that is read in one piece.
WHOLE_STREAM = "all"


def encode_state(state: State) -> bytes:
    """Return ``state`` as it travels: bytes unchanged, an object as canonical JSON (sorted keys, no spaces).

    Raises:
        Fatal: it is neither, and would not come back as what it was; or it holds what JSON has no word for, such as a
            datetime or NaN.
    """
    if isinstance(state, bytes):
        return state
    if not isinstance(state, dict):
        raise Fatal(
            f"a state is a dict or bytes, and not {type(state).__name__}",
            reason="bad_state",
            hint='give it a name: out.checkpoint({"cursor": …}) comes back as request.cursor["cursor"]',
        )
    try:
        text = json.dumps(state, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError) as exc:
        raise Fatal(
            f"a state cannot be written as JSON: {type(exc).__name__}",
            reason="bad_state",
            hint="its keys are texts, and a time is kept as text (isoformat), as JSON has none",
        ) from exc


def decode_state(state: bytes) -> State:
    """Return the JSON object in ``state``, or ``state`` itself where it is none."""
    if not state.startswith(b"{"):
        return state
    try:
        value = json.loads(state)
    except ValueError:
        return state
    return value if isinstance(value, dict) else state


class NoConfig(BaseModel):
    """The configuration of a connector that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream a source offers.

    ``cursor`` names the column, or the columns to choose from, by which it can be read incrementally; the sync modes
    follow from it unless given. ``event_time`` is the column with the source's own time of each record;
    ``has_position`` says that a column ``_pos`` holds each record's position in the source.
    """

    name: str
    schema: pa.Schema
    primary_key: Sequence[str] = ()
    cursor: str | Sequence[str] = ()
    sync_modes: Sequence[SyncMode | str] = ()
    replay: Replay | str = Replay.POSITION
    event_time: str = ""
    estimated_rows: int | None = None
    estimated_bytes: int | None = None
    has_position: bool = False

    @property
    def cursor_fields(self) -> tuple[str, ...]:
        """The columns one may read incrementally by."""
        return (self.cursor,) if isinstance(self.cursor, str) and self.cursor else tuple(self.cursor)

    @property
    def modes(self) -> tuple[SyncMode, ...]:
        """The sync modes, as given or as they follow from the cursor."""
        if self.sync_modes:
            return tuple(SyncMode(mode) for mode in self.sync_modes)
        return (SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL) if self.cursor_fields else (SyncMode.FULL_REFRESH,)


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of a stream that has a cursor of its own and may be read beside others.

    ``key`` matches ``[a-z0-9][a-z0-9-]{0,62}``; ``descriptor`` is handed back unchanged when the read is resumed.
    """

    key: str
    descriptor: State = b""
    estimated_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How a stream will be read; ``final_state`` becomes the stream's own state once every unit is complete."""

    units: Sequence[Unit]
    final_state: State = b""


@dataclass(frozen=True, slots=True)
class Pushdown:
    """What the source itself does of a request; the host does the rest.

    ``filters`` are indices into the request's filters.
    """

    columns: bool = False
    filters: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are at the source, for people to check."""

    name: str = ""
    scopes: Sequence[str] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One read unit to be read, as ``Connector.read`` gets it.

    ``cursor`` is the last committed state as an object, None where there is none (or where it is bytes: ``state``).
    ``since`` counts only while there is no state. ``schema`` is what ``out.emit`` will hold rows to: the stream's
    schema, narrowed to ``columns`` where columns are wanted. ``batch_size`` is the number of rows to ask the source
    for at a time, not the size of what travels.
    """

    stream: str
    mode: SyncMode
    schema: pa.Schema
    unit: Unit = field(default_factory=lambda: Unit(WHOLE_STREAM))
    cursor: dict[str, Any] | None = None
    state: bytes = b""
    state_version: int = 0
    since: datetime | None = None
    until: Until = Until.CAUGHT_UP
    columns: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    batch_size: int = 10_000
    cursor_field: str = ""
    primary_key: tuple[str, ...] = ()
    write: WriteMode = WriteMode.REPLACE
    generation: int = 0


class Secrets(dict[str, str]):
    """The run's secrets by slot; one that was not delivered is a configuration error, and none shows in a repr."""

    def __missing__(self, name: str) -> str:
        raise Configuration(
            f"the secret {name!r} was not delivered",
            reason="secret_missing",
            hint=f"declare the slot {name!r} in the manifest and map it in the connection's secrets",
            fields={f"secrets.{name}": "missing"},
        )

    def __repr__(self) -> str:
        return f"Secrets({', '.join(sorted(self))})"


class Connector(ABC):
    """A kind of source. Derive, fill in three methods, and end the module with ``serve(YourConnector)``.

    One object serves one run. Its methods may be called from several threads: ``read`` once per unit in parallel (up
    to ``max_parallel``), ``on_committed`` beside it. What a thread must not share belongs into ``read``.
    """

    #: Model of the connection's configuration; also the manifest's config schema.
    Config: ClassVar[type[BaseModel]] = NoConfig
    #: How many units may be read at once.
    max_parallel: ClassVar[int] = 1
    #: Version of the states this connector writes.
    state_version: ClassVar[int] = 1
    #: What this run may reach; set before `authenticate` is called.
    hosts: tuple[OpenedHost, ...] = ()

    @abstractmethod
    def authenticate(self, config: Any, secrets: Mapping[str, str]) -> Any:
        """Prove the secrets to the source and return a session of your own making.

        Called again with new secrets when they are rotated; the old session is closed once no read uses it.

        Raises:
            Auth: the source refuses.
            Configuration: a setting cannot be right.
        """

    @abstractmethod
    def discover(self, session: Any) -> Iterable[Stream]:
        """Yield every stream the source offers."""

    @abstractmethod
    def read(self, session: Any, request: ReadRequest, out: Out) -> None:
        """Emit the unit's records, offering checkpoints, and return when it is read to its end.

        ``out.checkpoint`` may not return: it unwinds the method with an exception derived from BaseException when the
        host asks to stop or the session is replaced. Release in ``finally`` or ``with``.
        """

    def describe(self, session: Any, name: str) -> Stream | None:
        """Return one stream by name, None where there is none; override it where listing all is slow."""
        return next((stream for stream in self.discover(session) if stream.name == name), None)

    def plan(self, session: Any, request: ReadRequest) -> Plan:  # noqa: ARG002 - for those who override it
        """Cut the stream into units; by default it is read in one piece."""
        return Plan((Unit(WHOLE_STREAM),))

    def check_plan(self, session: Any, request: ReadRequest, units: Sequence[Unit]) -> None:  # noqa: ARG002
        """Refuse stored units that can no longer be served.

        By default a connector without a plan of its own serves the whole stream and nothing else; one with a plan
        serves what it once planned.

        Raises:
            PlanStale: begin anew.
        """
        if type(self).plan is Connector.plan and [unit.key for unit in units] != [WHOLE_STREAM]:
            raise PlanStale(f"this version reads {request.stream!r} in one piece", stream=request.stream)

    def pushdown(self, session: Any, request: ReadRequest) -> Pushdown:  # noqa: ARG002
        """Say what of the request the source itself does; by default nothing."""
        return Pushdown()

    def identify(self, session: Any) -> Identity:  # noqa: ARG002
        """Say who we are at the source; by default nothing is known."""
        return Identity()

    def probes(self, session: Any) -> Mapping[str, Callable[[], str]]:  # noqa: ARG002
        """Return named tests of the connection; each returns what it found, or raises a ConnectorError."""
        return {}

    def on_committed(self, session: Any, state: State) -> None:  # noqa: B027 - optional
        """Advance the source: everything up to ``state`` is committed. Called at least once, in a fresh process too."""

    def close(self, session: Any) -> None:  # noqa: B027 - optional
        """Release a session."""
