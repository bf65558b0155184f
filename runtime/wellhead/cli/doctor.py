"""``wellhead doctor``: is this machine ready, and if not, what to do about it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json
from wellhead.errors import WellheadError, counted

if TYPE_CHECKING:
    from wellhead.app import App

#: Below this a run may fill the disk while it writes its first segments.
LOW_DISK_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``mend`` is empty where all is well."""

    name: str
    ok: bool
    said: str
    mend: str = ""


def doctor(config: Config = None, as_json: Json = False) -> None:
    """Check this machine for what runs need; each finding names its mend."""
    from wellhead import app as services

    with services.opened(config) as host:
        findings = [_look(name, check, host) for name, check in _CHECKS]
    if as_json:
        output.print_json([output.plain(finding) for finding in findings])
    else:
        out = output.console()
        for finding in findings:
            mark = "[green]ok  [/]" if finding.ok else "[red]FAIL[/]"
            out.print(f"{mark} {finding.name:<10} ", end="")
            out.print(finding.said, markup=False)
            if finding.mend:
                out.print(f"     {'mend':<10} {finding.mend}", markup=False)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 78)


def _look(name: str, check: Callable[[App], Finding], host: App) -> Finding:
    try:
        return check(host)
    except WellheadError as error:
        return Finding(name, False, f"{error.code} {error.message}", error.hint or "")


def _docker(host: App) -> Finding:
    info = host.engine.info()
    runtimes = ", ".join(info.runtimes)
    wanted = host.settings.docker.runtime
    if wanted is not None and wanted not in info.runtimes:
        return Finding(
            "docker", False, f"no runtime {wanted!r} (there are {runtimes})", "install it, or unset docker.runtime"
        )
    return Finding("docker", True, f"Engine {info.version}, API {info.api_version}, runtimes {runtimes}")


def _sockets(host: App) -> Finding:  # noqa: ARG001
    from wellhead.engine import folders

    root = folders.default_root()
    folders.prepare_root(root)
    return Finding("sockets", True, f"connectors meet the host in {root}")


def _gateway(host: App) -> Finding:
    tool = shutil.which("mmdebstrap")
    if tool is None:
        return Finding("base", False, "mmdebstrap is missing, which makes base images", "apt-get install mmdebstrap")
    return Finding("base", True, f"base images are made with {tool} and kept in {host.cache}")


def _registry(host: App) -> Finding:
    return Finding("registry", True, f"{host.database.where} at migration {host.database.revision()}")


def _store(host: App) -> Finding:
    from wellhead.images import naming, store

    lacking = []
    for connector, version in store.releases(host.layout):
        found = host.layout.named(naming.name_of(connector, version))
        if found is not None and store.missing(host.layout, found):
            lacking.append(f"{connector} {version}")
    if lacking:
        return Finding(
            "store",
            False,
            f"{host.layout.path} lacks parts of {', '.join(lacking)}",
            "restore the folder, or publish the same sources again; only an Engine that has loaded an image already "
            "can still run it. `wellhead verify` names the part",
        )
    if host.remote is not None:
        host.remote.greet()
    also = "" if host.remote is None else f"; {host.remote.where} answers"
    return Finding("store", True, f"{host.layout.path} holds {counted(len(host.layout.names()), 'name')}{also}")


def _trust(host: App) -> Finding:
    namespaces = ", ".join(sorted(host.trust.rules)) or "none"
    return Finding("trust", True, f"keys are trusted for the namespaces: {namespaces}")


def _policies(host: App) -> Finding:
    folder = host.settings.path(host.settings.policies)
    return Finding("policies", True, f"{len(host.policies)} in {folder} are asked before a connection runs")


def _secrets(host: App) -> Finding:
    store = host.settings.secrets.store
    if store == "local":
        return Finding("secrets", True, "local store: env:// and file:// references, for development only")
    if host.settings.vault is None:
        return Finding("secrets", True, "no Vault is configured; connections without secrets can run")
    from wellhead.secrets.vault import VaultStore

    vault = host.secrets
    if isinstance(vault, VaultStore):
        vault.check_login()
    return Finding("secrets", True, f"Vault at {host.settings.vault.address} accepts us")


def _disk(host: App) -> Finding:
    free = shutil.disk_usage(host.settings.root).free
    said = f"{free / 1024**3:.1f} GiB free where the project is"
    if free < LOW_DISK_BYTES:
        return Finding("disk", False, said, "free some space; segments are written here before they are committed")
    return Finding("disk", True, said)


_CHECKS: tuple[tuple[str, Callable[[App], Finding]], ...] = (
    ("docker", _docker),
    ("sockets", _sockets),
    ("base", _gateway),
    ("registry", _registry),
    ("store", _store),
    ("trust", _trust),
    ("policies", _policies),
    ("secrets", _secrets),
    ("disk", _disk),
)
