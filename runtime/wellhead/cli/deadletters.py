"""``wellhead deadletters``: records that were set aside, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Connection, Json

#: The registry counts no further.
_HIGHEST = 2**63 - 1

app = typer.Typer(no_args_is_help=True, help="Records that were set aside, and why.")


@app.command("list")
def list_letters(
    connection: Connection,
    stream: Annotated[str | None, typer.Option(metavar="NAME", help="Only this stream's.")] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only this run's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, newest first.")] = 50,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List a connection's dead letters, newest first."""
    from wellhead import app as services
    from wellhead.connections import key_of
    from wellhead.ids import RunId, StreamName
    from wellhead.registry import deadletters

    with services.opened(config) as host, host.database.read() as tx:
        letters = deadletters.latest(
            tx,
            key_of(host.settings, connection),
            stream=StreamName(stream) if stream else None,
            run_id=RunId(run) if run else None,
            limit=limit,
        )
    if as_json:
        output.print_json([output.plain(letter) for letter in letters])
        return
    output.print_table(
        "",
        ("number", "stream", "reason", "column", "key", "size", "set aside"),
        [
            (
                letter.number,
                letter.place.stream.stream,
                letter.rejected.reason,
                letter.rejected.column,
                letter.rejected.key_json[:60],
                letter.rejected.size_bytes,
                output.moment(letter.set_aside_at),
            )
            for letter in letters
        ],
        empty=f"{connection} has no dead letters.",
    )


@app.command()
def show(
    number: Annotated[int, typer.Argument(metavar="NUMBER", max=_HIGHEST, help="As `deadletters list` prints it.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show one dead letter whole, with the sample that was kept of it."""
    from wellhead import app as services
    from wellhead.registry import deadletters

    with services.opened(config) as host, host.database.read() as tx:
        letter = deadletters.get(tx, number)
    if as_json:
        output.print_json(output.plain(letter))
        return
    out, record = output.console(), letter.rejected
    for name, value in (
        ("number", letter.number),
        ("stream", letter.place.stream),
        ("unit", letter.place.unit),
        ("run", letter.place.run_id),
        ("commit", letter.place.commit_no),
        ("reason", record.reason),
        ("column", record.column),
        ("text", record.text),
        ("key", record.key_json),
        ("size", f"{record.size_bytes} bytes"),
        ("sha256", record.sha256),
        ("status", letter.status),
        ("sample", record.sample.decode("utf-8", "backslashreplace")),
    ):
        out.print(f"{name:<8} {value}", markup=False)
