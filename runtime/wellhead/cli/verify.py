"""``wellhead verify`` and ``inspect``: whether a release is what was signed, and what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json
from wellhead.errors import counted

if TYPE_CHECKING:
    from wellhead.app import App
    from wellhead.catalog.verify import Inside, VerifiedRelease
    from wellhead.images.layout import Layout
    from wellhead.lifecycle.transfer import Held

Named = Annotated[
    str,
    typer.Argument(metavar="CONNECTOR[@VERSION]", help="NAMESPACE/NAME; default: what channel stable points to."),
]
Inspected = Annotated[
    str,
    typer.Argument(metavar="CONNECTOR[@VERSION]|FILE", help="As for `verify`, or a file that `catalog export` wrote."),
]


def verify(named: Named, config: Config = None, as_json: Json = False) -> None:
    """Check a release from the trusted key down to every byte of its layers; exit 76 and say which link broke."""
    from wellhead import app as services
    from wellhead.catalog import verify as links

    with services.opened(config) as host:
        held, release = _verified(host, named)
        read = links.verify_layers(held.shelf(release.connector), release)
    signed_by = list(release.key_ids)
    if as_json:
        output.print_json(
            {
                "connector": release.connector,
                "version": release.version,
                "digest": release.index_digest,
                "layer_bytes": read,
                "signed_by": signed_by,
            }
        )
        return
    output.console().print(
        f"{release.connector} {release.version} is whole: signed by {', '.join(signed_by) or 'nobody, as allowed here'}"
        f", {read / 1e6:.1f} MB of layers are what their digests say",
        markup=False,
    )


def inspect(named: Inspected, config: Config = None, as_json: Json = False) -> None:
    """Verify a release and say what is in it: images, licences, SBOM, provenance, signers, and what streams promise.

    Of a FILE every release is verified down to its layers, as an import would by this project's trust.yaml; nothing is
    kept. Exit 76 if an import would refuse one.
    """
    from wellhead import app as services
    from wellhead.catalog import verify as links

    if Path(named).is_file():
        _inspect_file(Path(named), config, as_json)
        return
    with services.opened(config) as host:
        held, release = _verified(host, named)
        facts = _facts(release, links.inside(held, release))
    if as_json:
        output.print_json(facts)
        return
    _tell(facts)


def _inspect_file(file: Path, config: Path | None, as_json: bool) -> None:
    from wellhead import app as services
    from wellhead.images import bundle
    from wellhead.lifecycle import transfer

    with services.opened(config) as app:
        keys, found = bundle.keys(file), transfer.held(app.host(), file)
    refused = next((one.refused for one in found if one.refused is not None), None)
    if as_json:
        document = {"file": str(file), "keys": list(keys), "releases": [_held(one) for one in found]}
        if refused is not None:
            output.fail(document, refused)
        output.print_json(document)
        return
    _tell_file(file, keys, found)
    if refused is not None:
        raise refused


def _held(one: Held) -> dict[str, Any]:
    facts = {} if one.release is None or one.inside is None else _facts(one.release, one.inside)
    refused = None if one.refused is None else {"code": one.refused.code.name, "message": one.refused.message}
    return {
        **facts,
        **one.record.model_dump(mode="json", exclude_none=True),
        "channels": list(one.channels),
        "known": one.is_known,
        "refused": refused,
    }


def _tell_file(file: Path, keys: Sequence[str], found: Sequence[Held]) -> None:
    output.print_table(
        f"{file}: {counted(len(found), 'release')}, {file.stat().st_size / 1e6:.1f} MB; "
        f"public keys, none trusted from here: {', '.join(keys) or 'none'}",
        ("connector", "version", "status", "channels", "digest", "here"),
        [
            (
                one.record.connector,
                one.record.version,
                one.record.status,
                ", ".join(one.channels),
                one.record.digest[:19],
                f"refused: {one.refused.code}"
                if one.refused is not None
                else f"{'known' if one.is_known else 'new'}, signed by "
                f"{', '.join(one.release.key_ids if one.release else ()) or 'nobody, as allowed here'}",
            )
            for one in found
        ],
        empty=f"{file} holds no release.",
    )
    if len(found) == 1 and found[0].release is not None and found[0].inside is not None:
        _tell(_facts(found[0].release, found[0].inside))


def _facts(release: VerifiedRelease, found: Inside) -> dict[str, Any]:
    manifest, statement = release.manifest, release.statement
    return {
        "connector": release.connector,
        "version": release.version,
        "digest": release.index_digest,
        "title": manifest.metadata.title,
        "license": manifest.metadata.license,
        "signed": None
        if statement is None
        else {
            "by": list(release.key_ids),
            "publisher": statement.publisher,
            "at": statement.issued_at.isoformat(),
            "until": None if statement.expires_at is None else statement.expires_at.isoformat(),
        },
        "images": {
            platform: {
                "id": image.config,
                "manifest": image.manifest,
                "base": found.lowest.get(platform),
                "layer_bytes": found.layer_bytes[platform],
            }
            for platform, image in sorted(release.images.items())
        },
        "provenance": None
        if found.made is None
        else output.plain(found.made) | {"subjects": sorted(found.made.subjects)},
        "components": list(found.components),
        "streams": [
            {
                "name": stream.name or stream.pattern,
                "primary_key": list(stream.primary_key),
                "cursor": None if stream.cursor is None else stream.cursor.model_dump(mode="json"),
                "sync_modes": list(stream.sync_modes or manifest.capabilities.sync_modes),
                "classification": stream.classification or manifest.compliance.classification,
            }
            for stream in manifest.streams
        ],
        "egress": [f"{entry.host}:{entry.port} ({entry.open})" for entry in manifest.network.egress],
    }


def _verified(host: App, named: str) -> tuple[Layout, VerifiedRelease]:
    from wellhead.catalog import verify as links
    from wellhead.cli.catalog import release_of

    connector, _, version = named.partition("@")
    known = release_of(host, connector, version or None)
    held = host.holding(known.connector_id, known.version, known.index_digest)
    return held, links.verify_release(held, known.index_digest, known.connector_id, known.version, host.trust)


def _tell(facts: dict[str, Any]) -> None:
    signed, made = facts["signed"], facts["provenance"]
    rows = [("release", f"{facts['connector']} {facts['version']}  {facts['title']} ({facts['license']})")]
    rows.append(("digest", facts["digest"]))
    if signed is None:
        rows.append(("signed by", "nobody; trust.yaml allows that here"))
    else:
        until = f", lasts until {signed['until']}" if signed["until"] else ""
        rows.append(("signed by", f"{', '.join(signed['by'])} for {signed['publisher']} at {signed['at']}{until}"))
    for platform, image in facts["images"].items():
        rows.append((f"image {platform}", f"{image['id']}  {image['layer_bytes'] / 1e6:.1f} MB"))
        rows.append(("  base layer", str(image["base"])))
    rows.append(("built by", "not said" if made is None else f"{made['builder']} ({made['build_type']})"))
    rows += [] if made is None else [(f"  {name}", digest) for name, digest in sorted(made["materials"].items())]
    rows.append(("reaches", ", ".join(facts["egress"]) or "nothing"))
    output.print_table("", ("", ""), rows, empty="")
    output.print_table(
        "streams",
        ("stream", "key", "modes", "classification"),
        [
            (item["name"], ", ".join(item["primary_key"]), ", ".join(item["sync_modes"]), item["classification"])
            for item in facts["streams"]
        ],
        empty="Its streams are found at the source.",
    )
    output.print_table(
        "made of",
        ("component", "version", "licence"),
        [(part["name"], part["version"], _licences(part)) for part in facts["components"]],
        empty="It says nothing of what it is made of.",
    )


def _licences(part: dict[str, Any]) -> str:
    entries = part.get("licenses") or ()
    said = [entry["expression"] if "expression" in entry else entry["license"]["name"] for entry in entries]
    return ", ".join(said)
