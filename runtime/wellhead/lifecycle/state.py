"""An operator's word on where a stream goes on: another position, or none at all.

Whichever it is, it holds from the next read on; a word that the next read would not heed is refused.
"""

from __future__ import annotations

from wellhead.errors import Code, ConfigurationError
from wellhead.ids import WHOLE_STREAM, ConnectorId, StreamKey
from wellhead.registry import generations, run_state, runs, segments
from wellhead.registry.database import Transaction

NOT_HEEDED = Code("WH-RUN-085", "A state was to be set that the next run would not go on from.")


def replace(
    tx: Transaction, stream: StreamKey, *, state: bytes, state_version: int, connector: ConnectorId | None = None
) -> run_state.UnitState:
    """Let a stream's next run go on from ``state``, after a reset too; rows are added to the table that is there.

    Args:
        tx: the transaction.
        stream: whose state it is.
        state: as the connector would have offered it.
        state_version: its format.
        connector: what the connection's next run will use, where that may be another than before.

    Raises:
        ConfigurationError: the stream was never read (WH-REG-051), or what is stored of it is not read from a state
            (WH-RUN-085): a full refresh, a first read that has not come to its end, or one of another connector.
    """
    run_state.require(tx, stream)
    current = generations.current(tx, stream)
    if current is None:
        raise _not_heeded(stream, "has no complete generation", "run it once: its first read begins at the start")
    if connector is not None and is_of_another(tx, current, connector):
        raise _not_heeded(
            stream,
            f"was read with another connector than {connector}",
            "run it once: its first read begins at the start",
        )
    if current.status == "open" and [unit.unit for unit in run_state.load(tx, stream, current.number)] != [
        WHOLE_STREAM
    ]:
        raise _not_heeded(
            stream,
            f"is being read in parts, which generation {current.number} has not finished",
            f"let a run finish it, or give it up with `wellhead state reset {stream.connection.name} {stream.stream}`",
        )
    if current.status != "open" and current.basis.mode == "full_refresh":
        raise _not_heeded(
            stream, "was read as a full refresh, which begins at the start", "run it once with `mode: incremental`"
        )
    return run_state.set_state(tx, stream, generation=current.number, state=state, state_version=state_version)


def reset(tx: Transaction, stream: StreamKey) -> int:
    """Forget what was read of a stream, so that its next run begins a new generation; return how many units it had."""
    units = run_state.reset(tx, stream)
    abandoned = generations.abandon(tx, stream)
    if abandoned is not None:
        # Its files go with the connection's next claim: none of them may be published before.
        segments.discard(tx, stream, abandoned)
    return units


def is_of_another(tx: Transaction, generation: generations.Generation, connector: ConnectorId) -> bool:
    """Say whether another connector, which the connection was of before, has read a generation.

    Its states are positions in another source, in a form of its own.
    """
    if generation.basis.sink is None:
        # Begun before that was asked: its state may long be one of the connector that the connection has now.
        return False
    run = runs.find(tx, generation.run_id)
    return run is not None and run.connector_id != connector


def _not_heeded(stream: StreamKey, why: str, hint: str) -> ConfigurationError:
    return ConfigurationError(f"{stream} {why}", code=NOT_HEEDED, hint=hint)
