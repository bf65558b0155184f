"""``wellhead connection``: what people decide about a connection, and what an operator allows it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Connection, Json, Yes
from wellhead.errors import Code, ConfigurationError, Place, UsageError, WellheadError

if TYPE_CHECKING:
    from wellhead.app import App
    from wellhead.catalog.policy import Moment, Policy
    from wellhead.connections import ConnectionFile
    from wellhead.lifecycle.plan import Plan
    from wellhead.manifest.model import Manifest
    from wellhead.settings import Settings
    from wellhead_sdk.wire.messages import Identity

EXISTS = Code("WH-CLI-070", "A connection of that name exists already.")
BAD_PAIR = Code("WH-CLI-071", "An argument is not of the form it has to be.")
NOT_NEEDED = Code("WH-CLI-072", "A host was to be approved that the connection does not ask for.")
NO_POLICY = Code("WH-CLI-074", "An approval names no policy that asks for one.")
NOT_REMOVED = Code("WH-CLI-073", "A removal was not confirmed.")
PROBES_FAILED = Code("WH-CLI-075", "What a connector tries at its source failed.")
NOT_OPEN = Code("WH-CLI-076", "An approval was to be taken back that is not in force.")
NOT_OFFERED = Code("WH-CLI-077", "A stream was to be read that the connector's manifest rules out, or in such a mode.")

app = typer.Typer(no_args_is_help=True, help="Add, check, approve and list connections.")


@app.command()
def add(
    connection: Connection,
    connector: Annotated[str, typer.Option(metavar="NAMESPACE/NAME", help="Connector, as `catalog list` names it.")],
    stream: Annotated[list[str], typer.Option(metavar="NAME[:MODE[:CURSOR]]", help="Stream to read; once for each.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Config parameter, read as its schema asks; once for each."),
    ] = None,
    secret: Annotated[
        list[str] | None, typer.Option(metavar="SLOT=REFERENCE", help="Secret reference; once for each.")
    ] = None,
    version: Annotated[str, typer.Option(help="Exact version or range.")] = "*",
    channel: Annotated[str, typer.Option(help="Channel within which the range is met.")] = "stable",
    config: Config = None,
) -> None:
    """Write connections/NAME.yaml and check it against the connector's manifest."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.lifecycle import governance, migration
    from wellhead.lifecycle.plan import examine
    from wellhead.manifest import config as configs

    words = dict(_pairs(set_, "--set"))
    document: dict[str, Any] = {
        "name": connection,
        "connector": connector,
        "version": version,
        "channel": channel,
        "config_version": None,
        "config": words,
        "secrets": dict(_pairs(secret, "--secret")),
        "streams": [_stream(text) for text in stream],
    }
    if connections.NAME.fullmatch(connection) is None:
        raise UsageError(
            f"{connection!r} cannot be the name of a connection",
            code=BAD_PAIR,
            hint="use lower-case letters, digits and dashes, at most 63, beginning with a letter or digit",
        )
    _require_once([said["name"] for said in document["streams"]])
    with services.opened(config) as host:
        file = connections.path_of(host.settings, connection)
        file.parent.mkdir(parents=True, exist_ok=True)
        written = _text(document)
        if not connections.create(file, written):
            raise ConfigurationError(
                f"{file} exists already", code=EXISTS, hint="edit it, or remove it first", place=Place(str(file))
            )
        try:
            manifest = migration.wanted(host.host(), connections.load(host.settings, connection, os.environ))
            # Only its schema says which of the words are numbers.
            document["config"] = configs.worded(manifest, words)
            if manifest.config.version > 1:
                document["config_version"] = manifest.config.version
            asked_for = _text(document)
            if connections.exchange(file, written, asked_for):
                written = asked_for
            loaded = connections.load(host.settings, connection, os.environ)
            seen = examine(host.host(), loaded)
            _require_offered(seen.manifest, loaded)
            asked: tuple[Moment, ...] = ("onboarding", "run")
            said = governance.judge(host.host(), loaded, seen.manifest, seen.config, seen.egress, asked)
            governance.refuse_denied(said, seen.manifest, connection)
        except BaseException:
            # Not what somebody else has made of it meanwhile.
            connections.exchange(file, written, None)
            raise
        waiting = governance.waiting(host.host(), loaded, said)
    output.console().print(f"wrote {file}", markup=False)
    for one in said:
        output.stderr().print(f"policy {one.policy.name} ({one.effect}): {one.message}", markup=False)
    for one in waiting:
        output.stderr().print(
            f"needs: wellhead connection approve {connection} --policy {one.policy.name}", markup=False
        )
    output.stderr().print(f"next: wellhead connection check {connection}", markup=False)


@app.command("list")
def list_connections(config: Config = None, as_json: Json = False) -> None:
    """List the project's connections and what each resolved to last."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.registry import connections as rows

    with services.opened(config) as host:
        files = connections.load_all(host.settings, os.environ)
        with host.database.read() as tx:
            known = {row.connection: row for row in rows.all_of(tx)}
    documents = []
    for file in files:
        row = known.get(file.key)
        documents.append(
            {
                "connection": file.connection.name,
                "connector": file.connection.connector,
                "version": file.connection.version,
                "enabled": file.connection.enabled,
                "resolved": row.resolved.version if row and row.resolved else None,
                "held": row.hold.version if row and row.hold else None,
                "running": row.lease.run_id if row and row.lease else None,
            }
        )
    if as_json:
        output.print_json(documents)
        return
    output.print_table(
        "",
        ("connection", "connector", "wants", "resolved", "held", "enabled", "running"),
        [
            (d["connection"], d["connector"], d["version"], d["resolved"], d["held"], d["enabled"], d["running"])
            for d in documents
        ],
        empty="No connections yet: wellhead connection add",
    )


@app.command()
def check(connection: Connection, config: Config = None, as_json: Json = False) -> None:
    """Start the connector, deliver config and secrets, and say who we are at the source; commits nothing."""
    document: dict[str, Any] = {"connection": connection, "release": None, "identity": "", "scopes": [], "probes": []}
    try:
        _check(connection, config, document, as_json=as_json)
    except WellheadError as error:
        if as_json:
            output.fail(document, error)
        raise
    if as_json:
        output.print_json({**document, "exit_code": 0, "error": None})


def _check(connection: str, config: Path | None, document: dict[str, Any], *, as_json: bool) -> None:
    """Fill ``document`` with what is found, and show it to a person.

    Raises:
        WellheadError: the connection cannot be opened, or a probe of its connector failed (WH-CLI-075).
    """
    from wellhead.cli.probe import asked
    from wellhead.lifecycle import run as lifecycle
    from wellhead.lifecycle.record import explained

    with asked(connection, config) as (host, file, stop):
        with lifecycle.probe(host, file, stop, lifecycle.Watch()) as (here, plan, _session, identity):
            document["release"] = {"id": plan.release.connector, "version": plan.release.version}
            document["identity"] = identity.identity
            document["scopes"] = list(identity.scopes)
            document["probes"] = [output.plain(probe) for probe in identity.probes]
        if not as_json:
            _show_check(connection, plan, identity)
        failed = [probe.name for probe in identity.probes if not probe.ok]
        if failed:
            error = ConfigurationError(
                f"failed at the source of {connection}: {', '.join(failed)}",
                code=PROBES_FAILED,
                hint=f"`wellhead runs logs {here.claim.run_id}` has what the connector said",
            )
            raise explained(here, error)


def _show_check(connection: str, plan: Plan, identity: Identity) -> None:
    out = output.console()
    out.print(f"{connection}: {plan.release.connector} {plan.release.version}", markup=False)
    if identity.identity:
        out.print(f"  we are {identity.identity}", markup=False)
    for probe in identity.probes:
        mark = "ok  " if probe.ok else "FAIL"
        out.print(f"  {mark} {probe.name}  {probe.detail}  ({probe.duration_ms} ms)", markup=False)
    for rule in plan.policy.rules:
        out.print(f"  may reach {rule.host}:{rule.port}", markup=False)


@app.command()
def approve(
    connection: Connection,
    hosts: Annotated[
        list[str] | None, typer.Argument(metavar="[HOST:PORT…]", help="Exactly as the run names them.")
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", metavar="POLICY", help="Allow what a policy asks about.")
    ] = None,
    release: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Agree to all this release lets the connection do.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the approval.")] = "approved by hand",
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the approval back.")] = False,
    config: Config = None,
) -> None:
    """Allow one connection what waits for a person: hosts, what a policy asks about, all a new release asks for."""
    from wellhead import app as services
    from wellhead import connections

    if not hosts and not policy and release is None:
        raise UsageError(
            "nothing was named to approve", code=BAD_PAIR, hint="name HOST:PORT, --policy POLICY or --release VERSION"
        )
    if release is not None and revoke:
        raise UsageError(
            "what a release asks for is not taken back",
            code=BAD_PAIR,
            hint=f"`wellhead rollback connection {connection}` goes back to an earlier release",
        )
    with services.opened(config) as host:
        file = connections.load(host.settings, connection, os.environ)
        if revoke:
            _revoke(host, file, hosts or [], policy or [])
            return
        wanted = [_host_and_port(text) for text in hosts or []]
        policies = _policies(host, policy or [])
        if release is not None:
            # Before it is asked what the connection needs: that may be the release's.
            _approve_release(host, file, release, reason)
        _approve(host, file, wanted, policies, reason)


def _policies(host: App, names: list[str]) -> list[Policy]:
    """Return the policies of these names, each of which has to ask for approval."""
    asking = {one.name: one for one in host.policies if one.effect == "require_approval"} if names else {}
    for name in names:
        if name not in asking:
            raise UsageError(
                f"there is no policy {name!r} that asks for approval",
                code=NO_POLICY,
                hint=f"those that do: {', '.join(asking) or 'none'}",
            )
    return [asking[name] for name in names]


def _approve(
    host: App, file: ConnectionFile, wanted: list[tuple[str, int]], policies: list[Policy], reason: str
) -> None:
    """Allow all that is named, or nothing where the connection does not ask for one of it."""
    from wellhead.ids import ConnectorId
    from wellhead.registry import approvals, policy_approvals

    connector = ConnectorId(file.connection.connector)
    if wanted:
        _require_asked(host, file, wanted)
    said = {"who": output.who(), "reason": reason}
    with host.database.transaction() as tx:
        for known, port in wanted:
            approvals.approve(tx, file.key, connector, known, port, **said)
        for policy in policies:
            policy_approvals.approve(tx, file.key, connector, policy.name, policy.sha256, **said)
    _tell(file, [f"{known}:{port}" for known, port in wanted], "opened")
    _tell(file, [policy.name for policy in policies], "approved")


def _require_asked(host: App, file: ConnectionFile, wanted: list[tuple[str, int]]) -> None:
    from wellhead.lifecycle.plan import examine

    asked = {(e.host, e.port) for e in examine(host.host(), file).egress if e.open == "operator"}
    for pair in wanted:
        if pair not in asked:
            raise UsageError(
                f"{file.connection.name} does not ask an operator for {pair[0]}:{pair[1]}",
                code=NOT_NEEDED,
                hint=f"it asks for: {_listed(asked)}",
            )


def _revoke(host: App, file: ConnectionFile, hosts: list[str], names: list[str]) -> None:
    """Take back all that is named, or nothing where one of it is not in force: it may be that one's wrong name.

    The manifest is not asked, so that what an earlier release had opened can be closed too.
    """
    from wellhead.registry import approvals, policy_approvals

    name = file.connection.name
    pairs = dict.fromkeys(_host_and_port(text) for text in hosts)
    with host.database.transaction() as tx:
        opened = {(one.host, one.port) for one in approvals.history(tx, file.key) if one.revoked_at is None}
        allowed = {one.policy for one in policy_approvals.history(tx, file.key) if one.revoked_at is None}
        closed = [f"{known}:{port}" for known, port in pairs if not approvals.revoke(tx, file.key, known, port)]
        unasked = [policy for policy in dict.fromkeys(names) if not policy_approvals.revoke(tx, file.key, policy)]
        # Within the transaction: an error takes back what the lines above have done.
        if closed or unasked:
            what = [f"{pair} is not open" for pair in closed] + [f"policy {one} is not approved" for one in unasked]
            raise UsageError(
                f"{', '.join(what)} for {name}; nothing was changed",
                code=NOT_OPEN,
                hint=f"open for {name}: {_listed(opened)}; policies approved: {', '.join(sorted(allowed)) or 'none'}",
            )
    _tell(file, hosts, "closed")
    _tell(file, names, "took back")


def _tell(file: ConnectionFile, named: list[str], verb: str) -> None:
    if named:
        output.console().print(f"{verb} {', '.join(named)} for {file.connection.name}", markup=False)


def _listed(pairs: set[tuple[str, int]]) -> str:
    return ", ".join(f"{host}:{port}" for host, port in sorted(pairs)) or "none"


def _approve_release(host: App, file: ConnectionFile, version: str, reason: str) -> None:
    from wellhead.lifecycle import upgrade as lifecycle

    news = lifecycle.approve(host.host(), file, version, output.who(), reason)
    said = f"{file.connection.name} may use all of {file.connection.connector} {version}"
    output.console().print(f"{said}, new: {', '.join(news)}" if news else f"{said}, which is nothing new", markup=False)


@app.command()
def upgrade(
    connection: Connection,
    to: Annotated[str | None, typer.Option("--to", metavar="VERSION", help="Default: the highest on offer.")] = None,
    config: Config = None,
) -> None:
    """Take a release that the connection is not moved to by itself: a major one, or one beyond auto_update."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.lifecycle import upgrade as lifecycle

    with services.opened(config) as host:
        file = connections.load(host.settings, connection, os.environ)
        done = lifecycle.upgrade(host.host(), file, to, output.who())
    output.console().print(
        f"{connection}: {done.before or 'never run'} → {done.to}, from its next run on", markup=False
    )


@app.command()
def migrate(
    connection: Connection,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    config: Config = None,
) -> None:
    """Rewrite a connection's file for the version of its config that its release reads; comments and order stay.

    Runs do not need it: they migrate in memory. What the file said is kept, for a rollback to an older release.
    """
    import difflib

    from wellhead import app as services
    from wellhead import connections
    from wellhead.lifecycle import migration

    with services.opened(config) as host:
        file = connections.load(host.settings, connection, os.environ)
        before = file.document.content.decode("utf-8-sig")
        order = migration.rewriting(host.host(), file)
        if order is None:
            version = file.connection.config_version
            said = f"{connection} is written for config version {version}, as its release reads it"
            output.console().print(said, markup=False)
            return
        if not dry_run:
            migration.carry_out(host.host(), order)
            _take_over(host.settings, connection, host)
    lines = difflib.unified_diff(before.splitlines(), order.text.splitlines(), "before", "after", lineterm="")
    for line in lines:
        output.console().print(line, markup=False)
    for step in order.steps:
        output.stderr().print(step, markup=False)
    verb = "would be" if dry_run else "is"
    output.stderr().print(
        f"{file.file} {verb} written for config version {order.version}, as {order.release} reads it", markup=False
    )


@app.command()
def enable(connection: Connection, config: Config = None) -> None:
    """Let a connection run again."""
    _set_enabled(connection, config, enabled=True)


@app.command()
def disable(connection: Connection, config: Config = None) -> None:
    """Keep a connection from running; its state and tables stay."""
    _set_enabled(connection, config, enabled=False)


@app.command()
def remove(connection: Connection, yes: Yes = False, config: Config = None) -> None:
    """Remove a connection's file and what was decided about it; its runs, states and tables stay."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.registry import connections as rows
    from wellhead.registry import kept_configs

    with services.opened(config) as host:
        file = connections.load(host.settings, connection, os.environ)
        if not output.ask(f"Remove {file.file}?", yes=yes):
            raise UsageError("nothing was removed", code=NOT_REMOVED, hint="confirm with --yes")
        # Whoever enables or disables it at this moment would bring its file back.
        with connections.changing(file.file):
            with host.database.transaction() as tx:
                if rows.find(tx, file.key) is not None:
                    rows.remove(tx, file.key)
                kept_configs.forget(tx, file.key)
            file.file.unlink(missing_ok=True)
    output.console().print(f"removed {file.file}", markup=False)


def _text(document: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml = YAML()
    # A folded line would come back as another text.
    yaml.width = 1_000_000
    out = io.StringIO()
    yaml.dump(_quoted({key: value for key, value in document.items() if value not in ({}, [], None)}), out)
    return out.getvalue()


def _quoted(value: Any) -> Any:
    """Return a value as it is to be written: what does not print, such as a line's end, escaped within quotes."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    match value:
        case dict():
            return {key: _quoted(item) for key, item in value.items()}
        case list():
            return [_quoted(item) for item in value]
        case str() if not value.isprintable():
            return DoubleQuotedScalarString(value)
        case _:
            return value


def _set_enabled(name: str, config: Path | None, *, enabled: bool) -> None:
    from wellhead import app as services
    from wellhead import connections

    with services.opened(config) as host:
        connections.set_enabled(host.settings, name, os.environ, enabled=enabled)
        _take_over(host.settings, name, host)
    output.console().print(f"{name} is {'enabled' if enabled else 'disabled'}", markup=False)


def _take_over(settings: Settings, name: str, host: Any) -> None:
    from wellhead import connections
    from wellhead.lifecycle.claim import onboard

    file = connections.load(settings, name, os.environ)
    with host.database.transaction() as tx:
        onboard(tx, file)


def _pairs(texts: list[str] | None, option: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {text!r} is not NAME=VALUE", code=BAD_PAIR, hint=f"write {option} NAME=VALUE")
        pairs.append((name, value))
    return pairs


def _stream(text: str) -> dict[str, Any]:
    name, _, rest = text.partition(":")
    mode, _, cursor = rest.partition(":")
    said = {"name": name, "mode": mode or "full_refresh", "cursor_field": cursor or None}
    return {key: value for key, value in said.items() if value}


def _require_once(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"--stream names {', '.join(twice)} more than once",
            code=BAD_PAIR,
            hint="name each stream once, with the one mode it is to be read in",
        )


def _require_offered(manifest: Manifest, file: ConnectionFile) -> None:
    from wellhead.manifest import offer

    release = f"{manifest.metadata.id} {manifest.metadata.version}"
    for stream in file.connection.streams:
        modes = offer.modes(manifest, stream.name)
        if stream.mode not in modes:
            what = f"does not read {stream.name} as {stream.mode}" if modes else f"has no stream {stream.name!r}"
            raise UsageError(f"{release} {what}", code=NOT_OFFERED, hint=f"it offers: {offer.listed(manifest)}")


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise UsageError(
            f"{text!r} is not HOST:PORT",
            code=BAD_PAIR,
            hint="write both, such as db.example.com:5432; a port is a number from 1 to 65535",
        )
    return host.lower(), int(port)
