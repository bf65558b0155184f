"""``wellhead receipt``: what a run did, signed by the host that did it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json
from wellhead.errors import Code, ConfigurationError, Place, counted

if TYPE_CHECKING:
    from wellhead.registry.runs import Run

NO_RECEIPT = Code("WH-CLI-024", "A run has no receipt.")
NO_HOST_KEY = Code("WH-CLI-025", "A receipt is to be checked with the key of a host that has none.")
UNREADABLE = Code("WH-CLI-026", "A file with a receipt cannot be read.")

app = typer.Typer(no_args_is_help=True, help="What runs did, signed by the host that did it.")


@app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run id, as `runs list` prints it.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show a run's receipt; with --json the signed envelope, to be filed and verified elsewhere."""
    from wellhead import app as services
    from wellhead.catalog import receipt

    with services.opened(config) as host, host.database.read() as tx:
        document = _receipt(_run(tx, run))
    if as_json:
        sys.stdout.write(receipt.envelope(document).decode() + "\n")
        return
    signed = document.get(receipt.FIELD)
    release = document["release"] or {}
    rows: list[tuple[str, Any]] = [
        ("run", document["run_id"]),
        ("connection", document["connection"]),
        ("status", document["status"]),
        ("release", f"{release.get('id', '-')} {release.get('version', '-')}  {release.get('digest', '')}"),
        ("image", document["image_id"]),
        ("finished", document["finished_at"]),
        ("signed by", "nobody" if signed is None else signed["keyid"]),
    ]
    rows += [
        (f"stream {stream['name']}", f"{counted(stream['rows'], 'row')}, crc32c {stream['content_crc32c']}")
        for stream in document["streams"]
    ]
    output.print_table("", ("", ""), rows, empty="")


@app.command()
def verify(
    what: Annotated[str, typer.Argument(metavar="FILE|RUN", help="File with an envelope, or a run id.")],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="PUB", help="Public key of the host that ran it; default: our own.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check that a receipt is what its host signed, and that the registry says the same; exit 76 otherwise."""
    from wellhead import app as services
    from wellhead.catalog import keys, receipt
    from wellhead.ids import RunId
    from wellhead.registry import runs

    with services.opened(config) as host:
        public = keys.load_public(key or _own(host.keys_folder))
        if Path(what).exists():
            said, signer = receipt.verify(_read(Path(what)), public)
            with host.database.read() as tx:
                known = runs.find(tx, RunId(str(said.get("run_id"))))
        else:
            with host.database.read() as tx:
                known = _run(tx, what)
            said, signer = receipt.verify(receipt.envelope(_receipt(known)), public)
    if known is not None:
        receipt.require_same(said, _columns(known))
    facts = {"run_id": said["run_id"], "signed_by": signer, "status": said["status"], "registry": known is not None}
    if as_json:
        output.print_json(facts)
        return
    also = "the registry says the same" if known is not None else "the registry here does not know the run"
    output.console().print(f"the receipt of run {said['run_id']} is what {signer} signed; {also}", markup=False)


def _own(folder: Path) -> Path:
    from wellhead.catalog import keys

    file = folder / f"{keys.HOST}.pub"
    if not file.exists():
        raise ConfigurationError(
            f"this host has signed no receipt yet: there is no {file}",
            code=NO_HOST_KEY,
            hint="name with --key the host.pub of the host that ran it; the first run here makes one for this host",
            place=Place(str(file)),
        )
    return file


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise ConfigurationError(
            f"the receipt {file} cannot be read: {exc.strerror}",
            code=UNREADABLE,
            hint="name a file that `wellhead receipt show RUN --json` was written to, or a run",
            place=Place(str(file)),
        ) from exc


def _run(tx: Any, run: str) -> Run:
    from wellhead.ids import RunId
    from wellhead.registry import runs

    return runs.get(tx, RunId(run))


def _receipt(run: Run) -> dict[str, Any]:
    if run.outcome is None or run.outcome.receipt is None:
        raise ConfigurationError(
            f"run {run.run_id} has no receipt; it is {run.status}",
            code=NO_RECEIPT,
            hint="a run writes its receipt when it ends; one that was killed writes none",
        )
    return dict(run.outcome.receipt)


def _columns(run: Run) -> dict[str, Any]:
    """Return what the run's own columns say of the fields a receipt has."""
    streams = run.outcome.streams if run.outcome is not None and run.outcome.streams is not None else {}
    return {
        "run_id": run.run_id,
        "connection": run.connection.name,
        "logical_run_id": run.logical_run_id,
        "status": run.status,
        "image_id": run.image_id,
        "release": None
        if run.version is None
        else {"id": run.connector_id, "version": run.version, "digest": run.index_digest},
        "streams": list(streams.values()),
    }
