"""``wellhead shadow``: what another release would have read, before anybody is moved to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Connection, Json
from wellhead.errors import ConfigurationError, counted

if TYPE_CHECKING:
    from wellhead.compat.readings import Comparison, Example
    from wellhead.lifecycle.shadow import Shadow, StreamShadow


def shadow(
    connection: Connection,
    version: Annotated[str, typer.Option(metavar="VERSION", help="The other release, such as 1.5.0.")],
    streams: Annotated[str | None, typer.Option(metavar="A,B", help="Only these of the selected streams.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Let both read from the start, not from the checkpoint.")
    ] = False,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Leave a column out; may be given more than once.")
    ] = None,
    examples: Annotated[
        int, typer.Option(metavar="N", min=0, max=1000, help="Rows to show of each kind of difference.")
    ] = 5,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but whether they differ.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs of both runs.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Read the same range with the present release and with another, throw both away, and say what differs.

    Nothing of the connection changes: neither its tables nor its states, and the source is told nothing. Exits with 0
    where both read the same, and with 78 where they do not.
    """
    import os

    from wellhead import app as services
    from wellhead import connections
    from wellhead.cli.run import Display, stopping_on_signals
    from wellhead.lifecycle import run as lifecycle
    from wellhead.lifecycle import shadow as shadows
    from wellhead.lifecycle.stop import Stop

    stop = Stop()
    with stopping_on_signals(stop), services.opened(config) as host:
        file = connections.load(host.settings, connection, os.environ)
        order = shadows.Order(
            version=version,
            full=full,
            streams=tuple(name.strip() for name in streams.split(",") if name.strip()) if streams else (),
            ignore=frozenset(ignore or ()),
            examples=examples,
        )
        with Display(quiet=quiet, verbose=verbose) as display:
            done = shadows.shadow(host.host(), file, order, stop, lifecycle.Watch(display.step, display.line))
    document = output.plain(done.document())
    if not as_json and not quiet:
        _tell(done)
    try:
        done.require_equal()
    except ConfigurationError as error:
        if as_json:
            output.fail(document, error)
        raise
    if as_json:
        output.print_json(document)
    raise typer.Exit(done.exit_code)


def _tell(done: Shadow) -> None:
    if done.stopped is not None:
        _print(f"stopped before both had read: {done.stopped.value}")
        return
    _print(
        f"{done.connection}: {done.connector} {done.present.version} beside {done.candidate.version}  run {done.run_id}"
    )
    for side in (done.present, done.candidate):
        if side.denied:
            denied = counted(side.denied, "connection")
            _print(f"  {denied} of {side.version} denied (wellhead runs show {side.run_id})")
    for stream in done.streams:
        begin = "the start" if stream.begin == "start" else "its checkpoint"
        _print(f"{stream.name}, from {begin}: {'equal' if stream.is_equal else 'different'}")
        for row in _lines(done, stream):
            _print(f"  {row[0]:<16}{row[1]}")


def _lines(done: Shadow, stream: StreamShadow) -> list[tuple[str, str]]:
    versions = (done.present.version, done.candidate.version)
    lines = [
        (f"{version} failed", f"{error.code} {error.message}")
        for version, error in zip(versions, stream.errors, strict=True)
        if error is not None
    ]
    if any(stream.dead_letters):
        lines.append(("dead letters", _both(versions, stream.dead_letters)))
    return lines if stream.comparison is None else lines + _differences(versions, stream.comparison)


def _differences(versions: tuple[str, str], found: Comparison) -> list[tuple[str, str]]:
    what = "key" if found.by_key else "row"
    lines = [
        ("schema", f"{change.name}: {change.present or 'not there'} → {change.candidate or 'not there'}")
        for change in found.schema
    ]
    lines.append(("rows", _both(versions, found.rows)))
    if any(found.too_new):
        lines.append(("too new", f"{_both(versions, found.too_new)}, left out: they came meanwhile"))
    if found.present_only:
        lines.append((f"only in {versions[0]}", counted(found.present_only, what)))
    if found.candidate_only:
        lines.append((f"only in {versions[1]}", counted(found.candidate_only, what)))
    if found.changed:
        lines.append(("changed", counted(found.changed, what)))
    lines += [("", f"in {name}: {counted(count, 'key')}") for name, count in found.columns.items()]
    if any(found.repeated):
        lines.append((f"repeated {what}s", _both(versions, found.repeated)))
    if found.uncompared:
        lines.append(("not compared", ", ".join(found.uncompared)))
    return lines + [("example", _example(versions, example)) for example in found.examples]


def _example(versions: tuple[str, str], example: Example) -> str:
    key = _named(example.key)
    match example.kind:
        case "changed":
            changes = (f"{name} {_value(was)} → {_value(now)}" for name, (was, now) in example.columns.items())
            return f"{key}: {', '.join(changes)}"
        case "present_only":
            return f"only in {versions[0]}: {key or _named({name: was for name, (was, _) in example.columns.items()})}"
        case "candidate_only":
            return f"only in {versions[1]}: {key or _named({name: now for name, (_, now) in example.columns.items()})}"


def _named(values: Any) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in values.items())


def _value(value: object) -> str:
    return "null" if value is None else str(output.plain(value))


def _both(versions: tuple[str, str], counts: tuple[int, int]) -> str:
    return f"{counts[0]:,} in {versions[0]}, {counts[1]:,} in {versions[1]}"


def _print(line: str) -> None:
    output.console().print(line, markup=False)
