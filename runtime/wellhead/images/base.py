"""The base of every image: a small Debian root filesystem made from Debian's own packages, without any registry.

`mmdebstrap` resolves, fetches and checks the packages; nothing of theirs is executed. What it unpacks is then cut down
(no shell, no package manager, no setuid bit), completed (user 65532, CA bundle, nsswitch) and given the compiled form
of Python's standard library, because a container with a read-only root would otherwise compile it on every start:

    packages ──mmdebstrap──▶ raw tar ──select──▶ tree ──compile──▶ one deterministic tar

The same package versions give the same bytes. A made base stays in the cache until it is asked to be refreshed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from wellhead.errors import Code, ConfigurationError
from wellhead.images import layer

NO_TOOL = Code("WH-IMG-001", "A program that images are made with is not installed.")
BASE_FAILED = Code("WH-IMG-002", "The base root filesystem could not be made.")
NO_ARCHITECTURE = Code("WH-IMG-003", "Images cannot be made on this machine's architecture.")

#: The release whose Python every dependency is resolved and compiled for.
SUITE = "bookworm"
PYTHON = "3.11"
PACKAGES = ("ca-certificates", "libpython3.11-stdlib", "libstdc++6", "python3.11-minimal", "tzdata")
#: What the gateway of the egress fence needs besides.
GATEWAY_PACKAGES = ("iproute2", "nftables")
#: The user every connector runs as: never root, never a user of the host.
UID = 65532
USER = f"{UID}:{UID}"

#: Raised whenever this module would make other bytes from the same packages.
RECIPE = 2

_SUITES = (SUITE, f"{SUITE}-updates", f"{SUITE}-security")
_PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
#: Every platform a base can be assembled for, on any machine: nothing of the packages is executed.
PLATFORMS = tuple(_PLATFORMS.values())
#: What dpkg would have kept of a package it installed; scanners read it.
_STATUS_FIELDS = ("Package", "Source", "Version", "Architecture", "Multi-Arch", "Section", "Maintainer", "Description")

#: Package management, manuals, other people's start-up files and everything that needs a shell or Perl.
_DROPPED = re.compile(
    r"""
      dev/.* | proc/.* | sys/.* | lib/systemd(/.*)? | usr/include(/.*)? | usr/libexec/dpkg(/.*)?
    | etc/(alternatives|apt|cron\.daily|dpkg|logrotate\.d|ca-certificates|ssl/certs/.*)(/.*)?
    | etc/(debconf\.conf|fstab|hostname|resolv\.conf|rmt|hosts)
    | bin/tar | s?bin/(start-stop-daemon|capsh|getcap|getpcaps|setcap)
    | usr/bin/(openssl|c_rehash|debconf.*|dpkg.*|update-alternatives)
    | usr/lib/ssl/misc(/.*)? | etc/(gss|netconfig)(/.*)?
    | usr/sbin/(dpkg.*|rmt-tar|tarcat|update-ca-certificates|.*-?debconf.*)
    | usr/share/(bash-completion|binfmts|bug|debconf|debhelper|dpkg|gcc|gdb|info|lintian|locale|man|menu)(/.*)?
    | usr/share/(perl5|pixmaps|polkit-1|readline)(/.*)? | usr/lib/binfmt\.d(/.*)?
    | usr/share/doc/[^/]+/(?!copyright$).*
    | usr/lib/(apt|dpkg|gcc|mime|tmpfiles\.d)(/.*)? | usr/lib/(x86_64|aarch64)-linux-gnu/(perl|gconv|tc)(/.*)?
    | var/(cache|log|backups)(/.*)? | var/lib/(apt|ucf|systemd)(/.*)? | var/lib/dpkg/(?!status$).*
    | usr/lib/python3\.11/(idlelib|lib2to3|turtledemo|tkinter|distutils|ensurepip|test)(/.*)?
    """,
    re.VERBOSE,
)

_FILES = {
    "etc/passwd": f"root:x:0:0:root:/nonexistent:/nonexistent\nwellhead:x:{UID}:{UID}:connector:/tmp:/nonexistent\n",
    "etc/group": f"root:x:0:\nwellhead:x:{UID}:\n",
    # Without it glibc asks DNS before /etc/hosts.
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    # For the scanners that read an image's contents; the package list is var/lib/dpkg/status.
    "etc/os-release": (
        'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'
        'VERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\nHOME_URL="https://www.debian.org/"\n'
    ),
}
_LINKS = {"usr/bin/python3": f"python{PYTHON}"}
_FOLDERS = {
    "tmp": 0o1777,
    "run": 0o755,
    "run/wellhead": 0o755,
    "data": 0o755,
    "proc": 0o555,
    "sys": 0o555,
    "dev": 0o755,
}


@dataclass(frozen=True, slots=True)
class Base:
    """A root filesystem's tar and the sha256 of its bytes, which is asked for at several places of a build."""

    tar: Path
    sha256: str

    @classmethod
    def of(cls, tar: Path) -> Self:
        """Read the whole tar for its hash."""
        return cls(tar, layer.file_hash(tar))


def machine_platform() -> str:
    """Return this machine's platform as OCI writes it, such as ``linux/amd64``.

    Raises:
        ConfigurationError: WH-IMG-003, no base is made for it.
    """
    machine = platform.machine()
    if machine not in _PLATFORMS:
        raise ConfigurationError(
            f"images are made for {' and '.join(sorted(_PLATFORMS))}, and this machine is {machine}",
            code=NO_ARCHITECTURE,
            hint="build on one of these architectures",
        )
    return _PLATFORMS[machine]


def rootfs(packages: tuple[str, ...], cache: Path, *, refresh: bool = False, target: str | None = None) -> Path:
    """Return the tar of a root filesystem with Python and ``packages`` on top, making it if the cache has none.

    The tar is a layer: deterministic, uid 0, compiled standard library, user 65532 in its passwd. Two processes that
    ask at once make it once.

    Args:
        packages: Debian packages besides `PACKAGES`; what they depend on comes along.
        cache: folder to keep it in; made if missing.
        refresh: make it anew, with the versions Debian has today.
        target: one of `PLATFORMS`; None means this machine's.

    Raises:
        ConfigurationError: no mmdebstrap (WH-IMG-001), it failed, with its last lines (WH-IMG-002), or no base is made
            for ``target`` (WH-IMG-003).
    """
    if target is not None and target not in PLATFORMS:
        raise ConfigurationError(
            f"images are made for {' and '.join(sorted(PLATFORMS))}, not for {target}",
            code=NO_ARCHITECTURE,
            hint="name one of these",
        )
    made_for = target or machine_platform()
    wanted = tuple(sorted({*PACKAGES, *packages}))
    described = json.dumps([RECIPE, layer.FORMAT, SUITE, made_for, wanted])
    key = hashlib.sha256(described.encode()).hexdigest()[:16]
    made = cache / f"base-{key}.tar"
    cache.mkdir(parents=True, exist_ok=True)
    if made.exists() and not refresh:
        return made
    # Bytecode is the same on every platform; what compiles it must run on this one.
    python = None if made_for == machine_platform() else interpreter(Base.of(rootfs((), cache)), cache)
    with exclusive(cache / f"base-{key}.lock"):
        if made.exists() and not refresh:
            return made
        with tempfile.TemporaryDirectory(prefix="base-", dir=cache) as scratch:
            _make(wanted, made_for, Path(scratch), made, python)
    return made


def interpreter(base: Base, cache: Path) -> tuple[str, ...]:
    """Return a command that runs the Python inside ``base`` on this host, without root and without a container.

    Bytecode must come from the very interpreter that will load it, so the tree is unpacked beside the tar and started
    through its own dynamic loader.
    """
    tree = cache / f"tree-{base.sha256[:16]}"
    if not tree.exists():
        with exclusive(tree.with_suffix(".lock")):
            if not tree.exists():
                unpacked = Path(tempfile.mkdtemp(prefix="tree-", dir=cache))
                _unpack(base.tar, unpacked)
                unpacked.rename(tree)
    return _command(tree)


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Let one process at a time through; the kernel drops the lock when its holder dies."""
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def compile_tree(python: tuple[str, ...], tree: Path, prefix: str) -> None:
    """Write the ``.pyc`` of every module under ``tree``, as reproducible bytes, with ``prefix`` as their place.

    Hash-based and unchecked, so that no file time matters; in a fresh interpreter with a fixed hash seed and one
    worker, because a warm process writes other marshal references. Modules that do not compile (templates, the
    syntax of other versions) are left as source, as Python itself would.
    """
    # Not -I: it would ignore PYTHONHASHSEED, too.
    arguments = ["-s", "-P", "-m", "compileall", "-qq", "-j", "1", "--invalidation-mode", "unchecked-hash"]
    environment = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    home = _home(python)
    if home is not None:
        environment["PYTHONHOME"] = home
    done = subprocess.run(
        [*python, *arguments, "-s", str(tree), "-p", prefix, str(tree)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    # 1 says that some module did not compile; anything else, or any word on stderr, that the compiler itself broke.
    if done.returncode not in (0, 1) or done.stderr:
        raise ConfigurationError(
            f"compiling {tree} failed with exit code {done.returncode}: {_tail(done.stderr)}",
            code=BASE_FAILED,
            hint="remove the image cache and build again",
        )


def _make(packages: tuple[str, ...], target: str, scratch: Path, made: Path, python: tuple[str, ...] | None) -> None:
    raw, described = scratch / "raw.tar", scratch / "packages"
    _debootstrap(packages, target, raw, described, scratch)
    tree = scratch / "tree"
    tree.mkdir()
    entries = _select(raw, tree, {"var/lib/dpkg/status": _status(described.read_text("utf-8"))})
    raw.unlink()
    stdlib = tree / "usr/lib" / f"python{PYTHON}"
    compile_tree(python or _command(tree), stdlib, f"/usr/lib/python{PYTHON}")
    compiled = layer.walk(stdlib, PurePosixPath(f"usr/lib/python{PYTHON}"))
    merged = {entry.name: entry for entry in entries} | {entry.name: entry for entry in compiled}
    finished = scratch / "finished.tar"
    with finished.open("wb") as file:
        layer.write(merged.values(), file)
        file.flush()
        os.fsync(file.fileno())
    finished.rename(made)


def _debootstrap(packages: tuple[str, ...], target: str, raw: Path, described: Path, scratch: Path) -> None:
    tool = shutil.which("mmdebstrap")
    if tool is None:
        raise ConfigurationError(
            "mmdebstrap is not installed",
            code=NO_TOOL,
            hint="apt-get install --no-install-recommends mmdebstrap debian-archive-keyring",
        )
    command = [*_as_root(), tool, "--variant=extract", "--mode=root", "--format=tar", "--quiet"]
    # Unpacking leaves dpkg's own list empty; afterwards nobody could say what the image is made of.
    listing = 'for deb in "$1"/var/cache/apt/archives/*.deb; do dpkg-deb --field "$deb" && echo; done > '
    command += [f"--architectures={target.partition('/')[2]}", f"--extract-hook={listing}{shlex.quote(str(described))}"]
    command += [f"--include={','.join(packages)}", SUITE, str(raw)]
    sources = machine_sources()
    if sources:
        listed = scratch / "sources.list"
        listed.write_text(sources)
        command.append(str(listed))
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(layer.EPOCH), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ConfigurationError(
            f"mmdebstrap ended with exit code {done.returncode}: {_tail(done.stderr)}",
            code=BASE_FAILED,
            hint="check the machine's apt sources and network",
        )


def _as_root() -> list[str]:
    """Return what lets a plain user unpack files of other owners: nothing of a package runs, so the look is enough.

    Raises:
        ConfigurationError: WH-IMG-001, neither fakeroot nor unshare is there.
    """
    if os.geteuid() == 0:
        return []
    for tool, *arguments in (["fakeroot"], ["unshare", "--map-root-user"]):
        found = shutil.which(tool)
        if found is not None:
            return [found, *arguments]
    raise ConfigurationError(
        "a plain user needs fakeroot to make a base", code=NO_TOOL, hint="apt-get install fakeroot"
    )


def machine_sources() -> str:
    """Return the machine's own apt sources of `SUITE` as one-line entries; empty where it has none.

    Empty lets mmdebstrap fall back to Debian's public mirror, say on Ubuntu or on a later Debian.
    """
    apt = shutil.which("apt-get")
    if apt is None:
        return ""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)"
    listed = subprocess.run(
        [apt, "indextargets", "--format", form, "Created-By: Packages"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = set()
    for line in listed.stdout.splitlines():
        uri, release, component, *keyring = line.split(" ")
        if release in _SUITES and component == "main":
            signed = f"[signed-by={keyring[0]}] " if keyring and keyring[0].startswith("/") else ""
            lines.add(f"deb {signed}{uri} {release} {component}\n")
    return "".join(sorted(lines)) if any(f" {SUITE} " in line for line in lines) else ""


def _status(fields: str) -> bytes:
    """Return dpkg's status of the packages whose control fields were printed, by name; descriptions are one line."""
    packages = []
    for paragraph in fields.strip().split("\n\n"):
        said = dict(line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"[A-Za-z-]+: ", line))
        kept = [f"{name}: {said[name]}" for name in _STATUS_FIELDS if name in said]
        packages.append("\n".join([kept[0], "Status: install ok installed", *kept[1:]]))
    return ("\n\n".join(sorted(packages)) + "\n").encode()


def _select(raw: Path, tree: Path, files: dict[str, bytes]) -> list[layer.Entry]:
    """Unpack what is kept of ``raw`` under ``tree`` and return the entries of the finished root, without bytecode."""
    entries: dict[str, layer.Entry] = {}
    authorities: list[tuple[str, bytes]] = []
    with tarfile.open(raw) as archive:
        for member in archive:
            name = member.name.removeprefix("./").rstrip("/")
            if name in ("", ".") or _DROPPED.fullmatch(name):
                continue
            match member.type:
                case tarfile.DIRTYPE:
                    (tree / name).mkdir(parents=True, exist_ok=True)
                    entries[name] = layer.Entry.folder(name)
                case tarfile.SYMTYPE:
                    (tree / name).parent.mkdir(parents=True, exist_ok=True)
                    (tree / name).symlink_to(member.linkname)
                    entries[name] = layer.Entry.link(name, member.linkname)
                case tarfile.REGTYPE | tarfile.AREGTYPE | tarfile.LNKTYPE:
                    opened = archive.extractfile(member)
                    assert opened is not None  # noqa: S101 - true for regular files and hard links inside the archive
                    content = opened.read()
                    target = tree / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
                    target.chmod(0o755 if member.mode & 0o111 else 0o644)
                    entries[name] = layer.Entry.file(name, target, executable=bool(member.mode & 0o111))
                    if name.startswith("usr/share/ca-certificates/mozilla/"):
                        authorities.append((name, content))
                case _:
                    continue  # device nodes: the Engine brings its own
    bundle = b"".join(content.rstrip(b"\n") + b"\n" for _, content in sorted(authorities))
    additions = {name: text.encode() for name, text in _FILES.items()} | files
    additions["etc/ssl/certs/ca-certificates.crt"] = bundle
    for name, content in additions.items():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        entries[name] = layer.Entry.file(name, target)
    for name, goal in _LINKS.items():
        entries[name] = layer.Entry.link(name, goal)
    for name, mode in _FOLDERS.items():
        entries[name] = layer.Entry.folder(name, mode)
    return list(entries.values())


def _unpack(base: Path, tree: Path) -> None:
    with tarfile.open(base) as archive:
        # Our own tar. Said by attribute, because Debian's Python 3.11.2 does not know the argument yet.
        archive.extraction_filter = lambda member, _path: member
        archive.extractall(tree)  # noqa: S202 - made by `_make`, from entries it chose


def _command(tree: Path) -> tuple[str, ...]:
    loaders = sorted(tree.glob("lib/*-linux-gnu/ld-linux-*.so.*"))
    libraries = [str(folder) for part in ("lib", "usr/lib") for folder in sorted(tree.glob(f"{part}/*-linux-gnu"))]
    return (str(loaders[0]), "--library-path", ":".join(libraries), str(tree / "usr/bin" / f"python{PYTHON}"))


def _home(python: tuple[str, ...]) -> str | None:
    """Return the prefix an unpacked interpreter must be told; an installed one finds its own."""
    return str(Path(python[-1]).parents[1]) if "--library-path" in python else None


def _tail(text: str) -> str:
    return " | ".join(line for line in text.strip().splitlines()[-5:]) or "it said nothing"
