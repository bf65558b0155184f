"""``wellhead keys``: pairs that sign releases, and who is trusted to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json
from wellhead.errors import Code, UsageError

if TYPE_CHECKING:
    from wellhead.catalog.trust import Signer

UNKNOWN_KEY = Code("WH-CLI-110", "A key was named that nobody knows here.")
NO_SCOPE = Code("WH-CLI-111", "A key was to be trusted for what is no namespace and no connector.")

app = typer.Typer(no_args_is_help=True, help="Keys that sign releases.")


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the pair; its files are called so.")],
    trust: Annotated[
        str | None,
        typer.Option("--trust", metavar="NAMESPACE", help="Let it sign for this namespace on this host: trust.yaml."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a pair of keys; the private half never leaves .wellhead/keys and is readable by you alone."""
    from wellhead import app as services
    from wellhead.catalog import keys
    from wellhead.catalog import trust as trusted

    if trust is not None and not trusted.is_scope(trust):
        raise UsageError(
            f"--trust {trust!r} is no namespace and no connector",
            code=NO_SCOPE,
            hint="write --trust acme or --trust acme/orders: lower-case letters, digits and dashes; no patterns",
        )
    with services.opened(config) as host:
        file = host.settings.path(host.settings.trust)
        with keys.making(host.keys_folder, name) as made:
            if trust is not None:
                trusted.add(file, trust, made.public, name)
        if as_json:
            output.print_json({"name": name, "id": made.public.id, "public": made.public.text, "trusted_for": trust})
            return
        out = output.console()
        out.print(f"{host.keys_folder / name}.key  {made.public.id}", markup=False)
        if trust is not None:
            out.print(f"{file} now lets it sign for {trust}/*", markup=False)
        else:
            out.print("Operators who trust it add to their trust.yaml:", markup=False)
            out.print(f'  keys: [{{id: "{made.public.id}", public: "{made.public.text}"}}]', markup=False)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID|NAME", help="A key id, or the name of a pair kept here.")],
    after: Annotated[
        datetime | None,
        typer.Option(help="What it signed before still counts; UTC. Leave it out for a key that was stolen."),
    ] = None,
    config: Config = None,
) -> None:
    """Let a key's signatures count no more on this host; every launch heeds it from now on."""
    from wellhead import app as services
    from wellhead.catalog import keys
    from wellhead.catalog import trust as trusted

    with services.opened(config) as host:
        pairs = {name: public.id for name, public in keys.pairs(host.keys_folder).items()}
        known = {signer.key.id for rule in host.trust.rules.values() for signer in rule.signers} | set(pairs.values())
        key_id = pairs.get(key, keys.KeyId(key))
        if key_id not in known:
            raise UsageError(f"there is no key {key!r}", code=UNKNOWN_KEY, hint="`wellhead keys list` shows them")
        file = host.settings.path(host.settings.trust)
        trusted.revoke(file, key_id, None if after is None else after.replace(tzinfo=after.tzinfo or UTC))
    what = "nothing it ever signed counts" if after is None else f"what it signs after {after.date()} does not count"
    output.console().print(f"{key_id} is revoked in {file}: {what}", markup=False)


@app.command("list")
def list_keys(config: Config = None, as_json: Json = False) -> None:
    """List this project's pairs and the keys trust.yaml names, with what each may sign."""
    from wellhead import app as services
    from wellhead.catalog import keys

    with services.opened(config) as host:
        own = {public.id: name for name, public in keys.pairs(host.keys_folder).items()}
        namespaces: dict[str, list[str]] = {key_id: [] for key_id in own}
        standing: dict[str, str] = {}
        for namespace, rule in host.trust.rules.items():
            for signer in rule.signers:
                namespaces.setdefault(signer.key.id, []).append(namespace)
                standing[signer.key.id] = _standing(signer)
    rows = [
        {
            "id": key_id,
            "name": own.get(keys.KeyId(key_id)),
            "trusted_for": sorted(found),
            "standing": standing.get(key_id),
        }
        for key_id, found in sorted(namespaces.items())
    ]
    if as_json:
        output.print_json(rows)
        return
    output.print_table(
        "",
        ("id", "pair here", "may sign for", "standing"),
        [(row["id"], row["name"], ", ".join(row["trusted_for"] or ()), row["standing"]) for row in rows],
        empty="No keys. `wellhead keys new NAME --trust NAMESPACE` makes a pair.",
    )


def _standing(signer: Signer) -> str:
    """Return what takes a key's word away, and from when on."""
    said = []
    if signer.revoked_from is not None:
        always = signer.revoked_from.year == 1
        said.append("revoked" if always else f"revoked for what it signed from {signer.revoked_from:%Y-%m-%d} on")
    if signer.expires is not None:
        said.append(f"expires {signer.expires:%Y-%m-%d}")
    return ", ".join(said)
