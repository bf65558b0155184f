"""``wellhead state``: what a stream will go on from."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Connection, Json, Yes
from wellhead.errors import Code, UsageError, counted

NOT_CONFIRMED = Code("WH-CLI-080", "Something that cannot be undone was not confirmed.")
NO_STATE_GIVEN = Code("WH-CLI-081", "No state was given to set.")

app = typer.Typer(no_args_is_help=True, help="Show, set and reset what a stream will go on from.")

Stream = Annotated[str, typer.Argument(metavar="STREAM", help="Stream of the connection.")]


@app.command()
def show(connection: Connection, config: Config = None, as_json: Json = False) -> None:
    """Show each read unit: its position, its commits, its rows."""
    from wellhead import app as services
    from wellhead.connections import key_of
    from wellhead.registry import run_state

    with services.opened(config) as host, host.database.read() as tx:
        units = run_state.all_of(tx, key_of(host.settings, connection))
    if as_json:
        output.print_json([output.plain(unit) for unit in units])
        return
    output.print_table(
        "",
        ("stream", "unit", "generation", "commit", "rows", "complete", "state"),
        [
            (
                unit.stream.stream,
                unit.unit,
                unit.generation,
                unit.commit_no,
                unit.rows_total,
                "retired" if unit.retired else "yes" if unit.complete else "no",
                _shown(unit.state),
            )
            for unit in units
        ],
        empty=f"{connection} has read nothing yet.",
    )


@app.command("set")
def set_state(
    connection: Connection,
    stream: Stream,
    state: Annotated[str, typer.Argument(metavar="STATE", help="The state as text, @FILE, or - for standard input.")],
    version: Annotated[int, typer.Option("--state-version", min=0, help="Format of the state.")] = 1,
    yes: Yes = False,
    config: Config = None,
) -> None:
    """Put another state in the place of a stream's; what lies between is read again or never."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.ids import ConnectorId, StreamKey, StreamName
    from wellhead.lifecycle import state as states

    content = _given(state)
    _confirm(f"Replace the state of {connection}/{stream}? Rows may be skipped or read again.", yes=yes)
    with services.opened(config) as host, host.database.transaction() as tx:
        key = StreamKey(connections.key_of(host.settings, connection), StreamName(stream))
        connector = None
        if connections.path_of(host.settings, connection).is_file():
            file = connections.load(host.settings, connection, os.environ)
            connector = ConnectorId(file.connection.connector)
        states.replace(tx, key, state=content, state_version=version, connector=connector)
    output.console().print(f"{connection}/{stream} goes on from {_shown(content)}", markup=False)


@app.command()
def reset(connection: Connection, stream: Stream, yes: Yes = False, config: Config = None) -> None:
    """Forget what was read of a stream; its next run begins a new generation. Its table stays until then."""
    from wellhead import app as services
    from wellhead.connections import key_of
    from wellhead.ids import StreamKey, StreamName
    from wellhead.lifecycle import state as states
    from wellhead.registry import generations, run_state

    _confirm(f"Forget what was read of {connection}/{stream}? The next run reads everything again.", yes=yes)
    with services.opened(config) as host, host.database.transaction() as tx:
        key = StreamKey(key_of(host.settings, connection), StreamName(stream))
        if not generations.all_of(tx, key):
            # As `state set` does: of a name that nothing was read under, nothing can be forgotten.
            run_state.require(tx, key)
        units = states.reset(tx, key)
    output.console().print(f"forgot {counted(units, 'read unit')} of {connection}/{stream}", markup=False)


def _given(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as exc:
            raise UsageError(
                f"cannot read {text[1:]}: {exc.strerror}",
                code=NO_STATE_GIVEN,
                hint="give the state as text, @FILE, or - for standard input",
            ) from exc
    return text.encode()


def _confirm(question: str, *, yes: bool) -> None:
    if not output.ask(question, yes=yes):
        raise UsageError("nothing was changed", code=NOT_CONFIRMED, hint="confirm with --yes")


def _shown(state: bytes) -> str:
    try:
        text = state.decode()
    except UnicodeDecodeError:
        text = ""
    if state and (not text.isprintable() or len(text) > 100):
        return f"{len(state)} bytes, sha256:{hashlib.sha256(state).hexdigest()[:12]}"
    return text
