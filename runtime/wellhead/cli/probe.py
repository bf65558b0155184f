"""``wellhead streams`` and ``wellhead preview``: look at a source without committing anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Connection, Json

if TYPE_CHECKING:
    from wellhead.connections import ConnectionFile
    from wellhead.lifecycle.host import Host, Run
    from wellhead.lifecycle.plan import Plan
    from wellhead.lifecycle.stop import Stop
    from wellhead.session.client import Session
    from wellhead_sdk.wire.messages import Identity


@contextmanager
def probing(connection: str, config: Path | None) -> Iterator[tuple[Run, Plan, Session, Identity]]:
    """Open a connection as a probe, with signals that end it."""
    from wellhead.lifecycle import run as lifecycle

    with (
        asked(connection, config) as (host, file, stop),
        lifecycle.probe(host, file, stop, lifecycle.Watch()) as opened,
    ):
        yield opened


@contextmanager
def asked(connection: str, config: Path | None) -> Iterator[tuple[Host, ConnectionFile, Stop]]:
    """Open the project and read a connection's file; signals set the ``Stop``."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.cli.run import stopping_on_signals
    from wellhead.lifecycle.stop import Stop

    stop = Stop()
    with stopping_on_signals(stop), services.opened(config) as host:
        yield host.host(), connections.load(host.settings, connection, os.environ), stop


def streams(
    connection: Connection,
    name: Annotated[str | None, typer.Option(metavar="STREAM", help="Describe this stream's columns.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List what a source offers; commits nothing."""
    with probing(connection, config) as (_, _plan, session, _identity):
        offered = session.discover((name,) if name else ())
    documents = [
        {
            "name": stream.name,
            "primary_key": list(stream.primary_key),
            "cursor_fields": list(stream.cursor_fields),
            "sync_modes": [mode.value for mode in stream.sync_modes],
            "replay": stream.replay.value,
            "estimated_rows": stream.estimated_rows,
            "columns": [
                {"name": field.name, "type": str(field.type), "nullable": field.nullable} for field in stream.schema
            ],
        }
        for stream in offered
    ]
    if as_json:
        output.print_json(documents)
        return
    if name:
        output.print_table(
            name,
            ("column", "type", "nullable"),
            [(field.name, field.type, field.nullable) for stream in offered for field in stream.schema],
            empty="It has no columns.",
        )
        return
    output.print_table(
        "",
        ("stream", "modes", "primary key", "cursor", "rows, about"),
        [
            (
                stream.name,
                " ".join(mode.value for mode in stream.sync_modes),
                " ".join(stream.primary_key),
                " ".join(stream.cursor_fields),
                stream.estimated_rows,
            )
            for stream in offered
        ],
        empty="The source offers no streams.",
    )


def preview(
    connection: Connection,
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="As `wellhead streams` names it.")],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows to show.")] = 10,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Read a few rows of a stream and show them; commits nothing, not even a position."""
    from wellhead.lifecycle.preview import preview as read_rows

    with probing(connection, config) as (_, plan, session, _identity):
        rows, columns = read_rows(session, plan, stream, limit)
    if as_json:
        output.print_json(rows)
        return
    output.print_table(stream, columns, [[row[name] for name in columns] for row in rows], empty="It has no rows.")
