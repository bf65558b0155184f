"""From a connector's folder to an OCI image, without a daemon: the same folder gives the same digest anywhere.

    base            Debian rootfs with Python                    images.base, cached
    dependencies    requirements.lock, hashes required           cached by the lock's hash
    application     the SDK's and the connector's own wheels     made each time
    + config and image manifest a platform, connector manifest, SBOM, provenance, and one index over them: the release

Nothing of a dependency is executed: only wheels are taken, and unpacked. The two build backends (the SDK's and the
connector's own) do run, as the author's code on the author's machine. So an image for another platform is assembled
like our own, but nobody has started it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from wellhead.errors import Code, ConfigurationError, Place
from wellhead.ids import ConnectorId, Digest
from wellhead.images import base as base_image
from wellhead.images import layer, oci, provenance, sbom, store
from wellhead.images.base import Base
from wellhead.manifest import load
from wellhead.manifest.load import LoadedManifest

NO_UV = Code("WH-IMG-020", "uv is not installed.")
BAD_LOCK = Code("WH-IMG-021", "A connector's requirements.lock cannot be installed.")
BAD_PROJECT = Code("WH-IMG-022", "A connector's pyproject.toml does not fit its manifest or cannot be built.")
BAD_WHEEL = Code("WH-IMG-023", "A wheel holds what an image cannot take.")
NO_SDK = Code("WH-IMG-025", "The SDK's project is not on this machine.")
OTHER_PLATFORM = Code("WH-IMG-024", "A connector does not allow a platform.")

DEPENDENCIES = PurePosixPath("opt/wellhead/deps")
APPLICATION = PurePosixPath("opt/wellhead/app")
#: Where the connector finds its own manifest.
MANIFEST = PurePosixPath("wellhead/manifest.yaml")

LABEL_ID = "wellhead.connector.id"
LABEL_VERSION = "wellhead.connector.version"
LABEL_MANIFEST = "wellhead.connector.manifest.sha256"
#: What a Dockerfile of the second path must set just so.
ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108 - the one writable folder of the sandbox
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONPATH": f"/{APPLICATION}:/{DEPENDENCIES}",
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
    "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
}

_UV_PLATFORMS = {"linux/amd64": "x86_64-manylinux_2_36", "linux/arm64": "aarch64-manylinux_2_36"}
#: Of no use in an image, and different from one machine to the next.
_TRACES = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
_NOT_SOURCE = ("__pycache__", "build", "dist", "node_modules")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What every image of a host is made from: the base's tar, the SDK's project folder, and where to keep layers.

    ``others`` are the bases of further platforms to assemble images for; ``builder`` is who the provenance names.
    """

    base: Path
    sdk: Path
    cache: Path
    others: Mapping[str, Path] = field(default_factory=dict)
    builder: str = provenance.LOCAL_BUILDER

    def bases(self) -> dict[str, Path]:
        """Return the base of every platform, this machine's first."""
        return {base_image.machine_platform(): self.base, **self.others}


@dataclass(frozen=True, slots=True)
class Built:
    """A release in a layout, not yet signed."""

    connector: ConnectorId
    version: str
    index_digest: Digest
    manifest_sha256: str
    images: dict[str, oci.ImageDigests]
    loaded: LoadedManifest
    builder: str


@dataclass(frozen=True, slots=True)
class Stack:
    """One platform's image before it is stored: finished layers, bottom first, and its config.

    ``config`` None writes ours; that of an image that exists already is kept byte for byte, as its id must stay.
    """

    layers: Sequence[layer.Packed]
    config: bytes | None = None


def installed_sdk() -> Path:
    """Return the project folder of the wellhead-sdk this program runs with.

    Raises:
        ConfigurationError: WH-IMG-025, it was installed without its project, as from a package registry.
    """
    found = importlib.util.find_spec("wellhead_sdk")
    folder = Path(found.origin).parents[1] if found is not None and found.origin is not None else None
    if folder is None or not (folder / "pyproject.toml").is_file():
        raise ConfigurationError(
            "the project folder of wellhead-sdk is not on this machine",
            code=NO_SDK,
            hint="name it with --sdk DIR; a clone of Wellhead has it in sdk/",
        )
    return folder


@contextlib.contextmanager
def ahead(connector: Path, inputs: Inputs) -> Iterator[None]:
    """Have the connector's wheel made beside the block, for a `build` in it to find.

    What is wrong with it is for that `build` to say, after what it says of the manifest.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="wheel") as pool:
        pool.submit(_wheel, connector, inputs.cache)
        yield


def build(connector: Path, inputs: Inputs, out: store.Shelf, loaded: LoadedManifest | None = None) -> Built:
    """Make the release of the connector in the folder ``connector``.

    Args:
        connector: the folder.
        inputs: what else goes in.
        out: where the release goes.
        loaded: the folder's manifest, where the caller has judged it: what is built is then what was judged.

    Raises:
        ConfigurationError: the manifest is wrong (WH-DOC-…), the lock cannot be installed (WH-IMG-021), the project
            does not fit or build (022, 023), or this machine's platform is not allowed (024).
    """
    loaded = loaded or load.load(connector)
    tars = inputs.bases()
    _check_project(connector, loaded, tars)
    bases = {platform: Base.of(tar) for platform, tar in tars.items()}
    with ThreadPoolExecutor(max_workers=1) as pool:
        # Read while the compiler, which is another process, works.
        packages = [pool.submit(sbom.of_layers, [tar]) for tar in tars.values()]
        with _trees(connector, loaded, inputs, bases) as trees:
            application = _application_layer(trees)
            stacks = {}
            for platform, base in bases.items():
                dependencies = trees.dependencies[platform]
                packed = [compressed(base, inputs.cache), *([dependencies.packed] if dependencies else []), application]
                stacks[platform] = Stack(packed)
            components = _components(trees).union(*(read.result() for read in packages))
            return assemble(loaded, stacks, components, _making(connector, loaded, inputs, bases), out)


def assemble(
    loaded: LoadedManifest,
    stacks: Mapping[str, Stack],
    components: Iterable[sbom.Component],
    making: provenance.Making,
    out: store.Shelf,
) -> Built:
    """Put a release of finished layers into a store: images, connector manifest, SBOM, provenance, index over them.

    Args:
        loaded: the connector's manifest.
        stacks: the images by platform.
        components: for the SBOM.
        making: for the provenance.
        out: where the release goes.

    Raises:
        RefusedError: a layer's file is not what its description says (WH-IMG-012).
    """
    stored = {platform: _image(loaded, platform, stack, out) for platform, stack in sorted(stacks.items())}
    images = {platform: digests for platform, (_, digests) in stored.items()}
    contents = {
        sbom.MEDIA_TYPE: sbom.document(loaded, components),
        provenance.MEDIA_TYPE: provenance.document(loaded.manifest.metadata.id, images, making),
    }
    children = [
        *(image for image, _ in stored.values()),
        _artifact(
            out,
            "manifest",
            oci.CONNECTOR_MANIFEST,
            [(oci.CONNECTOR_MANIFEST, loaded.canonical_json()), (oci.CONNECTOR_YAML, loaded.document.content)],
        ),
        *(
            _artifact(out, role, kind, [(kind, oci.canonical(contents[kind]))])
            for role, kind in ((sbom.ROLE, sbom.MEDIA_TYPE), (provenance.ROLE, provenance.MEDIA_TYPE))
        ),
    ]
    release = {
        "schemaVersion": 2,
        "mediaType": oci.INDEX,
        "manifests": [child.document() for child in children],
        "annotations": {LABEL_ID: loaded.manifest.metadata.id, LABEL_VERSION: loaded.manifest.metadata.version},
    }
    index = out.put(oci.canonical(release), oci.INDEX)
    return Built(
        ConnectorId(loaded.manifest.metadata.id),
        loaded.manifest.metadata.version,
        index.digest,
        loaded.sha256,
        images,
        loaded,
        making.builder,
    )


def _image(
    loaded: LoadedManifest, platform: str, stack: Stack, out: store.Shelf
) -> tuple[oci.Descriptor, oci.ImageDigests]:
    layers = [out.adopt(_descriptor(item), store.read_file(item.path)) for item in stack.layers]
    written = stack.config if stack.config is not None else oci.canonical(_config(loaded, platform, stack.layers))
    settings = out.put(written, oci.CONFIG)
    document = {"schemaVersion": 2, "mediaType": oci.MANIFEST, "config": settings.document()}
    document["layers"] = [item.document() for item in layers]
    image = out.put(oci.canonical(document), oci.MANIFEST, platform=platform)
    return image, oci.ImageDigests(image.digest, settings.digest)


def stage(connector: Path, inputs: Inputs, folder: Path) -> None:
    """Write the folders a connector's Dockerfile copies: ``deps``, ``app`` and ``wellhead``, and ``base.tar`` beside.

    ``docker import base.tar NAME`` makes a BASE_IMAGE where none can be pulled. What was staged before is replaced.

    Raises:
        ConfigurationError: as `build`.
    """
    loaded = load.load(connector)
    platform = base_image.machine_platform()
    _check_project(connector, loaded, [platform])
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("deps", "app", "wellhead"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "wellhead").mkdir()
    (folder / "wellhead" / MANIFEST.name).write_bytes(loaded.document.content)
    # The Engine need not be sent what the Dockerfile never copies.
    (folder / ".dockerignore").write_text("base.tar\n")
    shutil.copyfile(inputs.base, folder / "base.tar")
    with _trees(connector, loaded, inputs, {platform: Base.of(inputs.base)}) as trees:
        shutil.copytree(trees.application, folder / "app", symlinks=True)
        if dependencies := trees.dependencies[platform]:
            shutil.copytree(dependencies.tree, folder / "deps", symlinks=True)
        else:
            (folder / "deps").mkdir()


def compressed(base: Base, cache: Path) -> layer.Packed:
    """Return a base as a packed layer, from the cache if it was packed before."""
    key = f"layer-{base.sha256[:32]}-{layer.GZIP_LEVEL}"
    return _remembered(cache, key, lambda target: _pack_file(base.tar, target))


@dataclass(frozen=True, slots=True)
class _Dependencies:
    tree: Path
    packed: layer.Packed


@dataclass(frozen=True, slots=True)
class _Trees:
    """What is on disk while an image is made; the application's folder is gone afterwards, the others are kept."""

    loaded: LoadedManifest
    dependencies: Mapping[str, _Dependencies | None]
    application: Path


@contextlib.contextmanager
def _trees(connector: Path, loaded: LoadedManifest, inputs: Inputs, bases: Mapping[str, Base]) -> Iterator[_Trees]:
    python = base_image.interpreter(bases[base_image.machine_platform()], inputs.cache)
    with (
        tempfile.TemporaryDirectory(prefix="app-", dir=inputs.cache) as scratch,
        ThreadPoolExecutor(max_workers=2) as pool,
    ):
        application = Path(scratch) / "app"
        application.mkdir()
        wheels = [pool.submit(_wheel, project, inputs.cache) for project in (inputs.sdk, connector)]
        dependencies = {
            platform: _dependencies(connector, platform, base, inputs.cache, python) for platform, base in bases.items()
        }
        for wheel in wheels:
            _unpack(wheel.result(), application)
        base_image.compile_tree(python, application, f"/{APPLICATION}")
        yield _Trees(loaded, dependencies, application)


def _check_project(connector: Path, loaded: LoadedManifest, platforms: Iterable[str]) -> None:
    allowed = loaded.manifest.runtime.platforms
    for platform in platforms:
        if platform not in allowed:
            raise ConfigurationError(
                f"{loaded.manifest.metadata.id} allows {', '.join(allowed)}, not {platform}",
                code=OTHER_PLATFORM,
                hint="add the platform to runtime.platforms, or build without it on another machine",
                place=loaded.document.place(("runtime", "platforms")),
            )
    project = _pyproject(connector).get("project", {})
    if project.get("version") != loaded.manifest.metadata.version:
        raise ConfigurationError(
            f"the manifest says version {loaded.manifest.metadata.version}, pyproject.toml {project.get('version')}",
            code=BAD_PROJECT,
            hint="give both the same version",
            place=Place(str(connector / "pyproject.toml"), field="project.version"),
        )


def _pyproject(project: Path) -> dict[str, Any]:
    file = project / "pyproject.toml"
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigurationError(
            f"{file} cannot be read: {exc}",
            code=BAD_PROJECT,
            hint="a connector's folder has a pyproject.toml with a [build-system]",
            place=Place(str(file)),
        ) from exc


def _dependencies(
    connector: Path, target: str, base: Base, cache: Path, python: tuple[str, ...]
) -> _Dependencies | None:
    lock = connector / "requirements.lock"
    try:
        lines = lock.read_text("utf-8").splitlines()
    except OSError as exc:
        raise ConfigurationError(
            f"{lock} cannot be read: {exc.strerror}",
            code=BAD_LOCK,
            hint="write it with `uv pip compile --generate-hashes`; an empty file means no dependencies",
            place=Place(str(lock)),
        ) from exc
    wanted = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not wanted:
        return None
    platform = _UV_PLATFORMS[target]
    described = oci.canonical([1, layer.FORMAT, platform, base.sha256, wanted])
    key = f"deps-{hashlib.sha256(described).hexdigest()[:32]}"
    tree = cache / key
    if not tree.exists():
        with base_image.exclusive(cache / f"{key}.lock"):
            if not tree.exists():
                scratch = Path(tempfile.mkdtemp(prefix="deps-new-", dir=cache))
                try:
                    _install(lock, platform, scratch)
                    base_image.compile_tree(python, scratch, f"/{DEPENDENCIES}")
                    scratch.rename(tree)
                finally:
                    shutil.rmtree(scratch, ignore_errors=True)
    return _Dependencies(tree, _remembered(cache, f"{key}-layer", lambda target: _pack_tree(tree, target)))


def _install(lock: Path, platform: str, tree: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        raise ConfigurationError("uv is not installed", code=NO_UV, hint="pip install uv")
    command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(tree), "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "--link-mode", "copy", "--no-compile-bytecode"]
    command += ["--python-version", base_image.PYTHON, "--python-platform", platform, "-r", str(lock)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigurationError(
            f"{lock} cannot be installed: {' | '.join(done.stderr.strip().splitlines()[-8:])}",
            code=BAD_LOCK,
            hint="every line needs hashes and a wheel for this platform; write the lock again",
            place=Place(str(lock)),
        )
    # Start-up scripts name this machine's Python; a connector is started as a module.
    shutil.rmtree(tree / "bin", ignore_errors=True)
    (tree / ".lock").unlink(missing_ok=True)
    for information in tree.glob("*.dist-info"):
        for name in _TRACES:
            (information / name).unlink(missing_ok=True)
        record = information / "RECORD"
        gone = ("bin/", "../../bin/", *(f"{information.name}/{name}" for name in _TRACES))
        kept = [line for line in record.read_text("utf-8").splitlines() if not line.startswith(gone)]
        record.write_text("\n".join(sorted(kept)) + "\n", "utf-8")


def _wheel(project: Path, cache: Path) -> Path:
    """Return the wheel of a project folder, built by its own backend, from the cache if nothing in it changed."""
    backend = _pyproject(project).get("build-system", {}).get("build-backend")
    if not isinstance(backend, str):
        raise ConfigurationError(
            f"{project / 'pyproject.toml'} names no build backend",
            code=BAD_PROJECT,
            hint='add [build-system] with requires = ["hatchling"] and build-backend = "hatchling.build"',
            place=Place(str(project / "pyproject.toml")),
        )
    # The backend runs in this interpreter.
    made_by = hashlib.sha256(f"{sys.version} {layer.EPOCH} {_source_hash(project)}".encode()).hexdigest()
    kept = cache / f"wheel-{made_by[:32]}"
    if not kept.exists():
        with base_image.exclusive(kept.with_suffix(".lock")):
            if not kept.exists():
                with tempfile.TemporaryDirectory(prefix="wheel-new-", dir=cache) as scratch:
                    out = Path(scratch) / "out"
                    out.mkdir()
                    _run_backend(project, backend, out)
                    out.rename(kept)
    (wheel,) = kept.glob("*.whl")
    return wheel


def _run_backend(project: Path, backend: str, out: Path) -> None:
    module, _, attribute = backend.partition(":")
    program = (
        "import functools, importlib, sys\n"
        "module, attribute, out = sys.argv[1:]\n"
        "found = importlib.import_module(module)\n"
        "found = functools.reduce(getattr, filter(None, attribute.split('.')), found)\n"
        "found.build_wheel(out)\n"
    )
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(layer.EPOCH), "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, module, attribute, str(out)],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ConfigurationError(
            f"{project} cannot be built: {' | '.join(done.stderr.strip().splitlines()[-3:])}",
            code=BAD_PROJECT,
            hint=f"install its build backend ({module.partition('.')[0]}) beside wellhead, and mend what it says",
            place=Place(str(project / "pyproject.toml")),
        )


def _source_hash(project: Path) -> str:
    """Return the sha256 of a project's files and their names, whatever their times, modes and place."""
    hashed = hashlib.sha256()
    for root, folders, files in os.walk(project):
        folders[:] = sorted(name for name in folders if name not in _NOT_SOURCE and not name.startswith("."))
        for name in sorted(files):
            file = Path(root, name)
            content = file.read_bytes()
            hashed.update(f"{file.relative_to(project).as_posix()}\0{len(content)}\0".encode())
            hashed.update(content)
    return hashed.hexdigest()


def _making(connector: Path, loaded: LoadedManifest, inputs: Inputs, bases: Mapping[str, Base]) -> provenance.Making:
    return provenance.Making(
        builder=inputs.builder,
        parameters={
            "connector": loaded.manifest.metadata.id,
            "version": loaded.manifest.metadata.version,
            "platforms": sorted(bases),
            "python": base_image.PYTHON,
            "recipe": {"base": base_image.RECIPE, "layer": layer.FORMAT, "gzip": layer.GZIP_LEVEL},
            "source_date_epoch": layer.EPOCH,
        },
        materials={
            **{f"base {platform}": base.sha256 for platform, base in bases.items()},
            "requirements.lock": layer.file_hash(connector / "requirements.lock"),
            "source": _source_hash(connector),
            "sdk": _source_hash(inputs.sdk),
        },
    )


def _unpack(wheel: Path, tree: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            parts = PurePosixPath(item.filename).parts
            if item.filename.startswith("/") or ".." in parts or parts[0].endswith(".data"):
                raise ConfigurationError(
                    f"{wheel.name} holds {item.filename}, which is not a plain package file",
                    code=BAD_WHEEL,
                    hint="ship Python packages only; scripts and data folders have no place in an image",
                )
            if not item.is_dir():
                target = tree.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(item))


def _application_layer(trees: _Trees) -> layer.Packed:
    entries = [
        *layer.walk(trees.application, APPLICATION),
        layer.Entry.file(str(MANIFEST), trees.loaded.document.content),
    ]
    # Beside the tree, and so gone with it.
    scratch = trees.application.parent
    with tempfile.TemporaryFile(dir=scratch) as tar:
        layer.write(entries, tar)
        tar.seek(0)
        return layer.pack(tar, scratch / "app.tar.gz")


def _pack_tree(tree: Path, target: Path) -> layer.Packed:
    with tempfile.TemporaryFile(dir=target.parent) as tar:
        layer.write(layer.walk(tree, DEPENDENCIES), tar)
        tar.seek(0)
        return layer.pack(tar, target)


def _pack_file(tar: Path, target: Path) -> layer.Packed:
    with tar.open("rb") as file:
        return layer.pack(file, target)


def _remembered(cache: Path, key: str, make: Any) -> layer.Packed:
    """Return the packed layer kept under ``key``; its description is written last, so a broken one is made again."""
    file, described = cache / f"{key}.tar.gz", cache / f"{key}.json"
    if not described.exists():
        with base_image.exclusive(cache / f"{key}.lock"):
            if not described.exists():
                packed = make(file)
                scratch = described.with_suffix(".new")
                scratch.write_text(
                    json.dumps({name: value for name, value in asdict(packed).items() if name != "path"})
                )
                scratch.rename(described)
    return layer.Packed(path=file, **json.loads(described.read_text()))


def _descriptor(packed: layer.Packed) -> oci.Descriptor:
    return oci.Descriptor(oci.LAYER, Digest(packed.digest), packed.size)


def _config(loaded: LoadedManifest, platform: str, layers: Sequence[layer.Packed]) -> dict[str, Any]:
    system, architecture = platform.split("/")
    metadata = loaded.manifest.metadata
    made = datetime.fromtimestamp(layer.EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    steps = ["base", "dependencies", "application"] if len(layers) == 3 else ["base", "application"]
    return {
        "architecture": architecture,
        "os": system,
        "created": made,
        "config": {
            "User": base_image.USER,
            "Env": [f"{name}={value}" for name, value in sorted(ENVIRONMENT.items())],
            "Entrypoint": list(loaded.manifest.runtime.entrypoint),
            "WorkingDir": "/",
            "Labels": {LABEL_ID: metadata.id, LABEL_VERSION: metadata.version, LABEL_MANIFEST: loaded.sha256},
        },
        "rootfs": {"type": "layers", "diff_ids": [item.diff_id for item in layers]},
        "history": [{"created": made, "created_by": f"wellhead build: {step}"} for step in steps],
    }


def _artifact(out: store.Shelf, role: str, kind: str, contents: list[tuple[str, bytes]]) -> oci.Descriptor:
    empty = out.put(b"{}", oci.EMPTY)
    document = {"schemaVersion": 2, "mediaType": oci.MANIFEST, "artifactType": kind, "config": empty.document()}
    document["layers"] = [out.put(content, media_type).document() for media_type, content in contents]
    return out.put(oci.canonical(document), oci.MANIFEST, annotations={oci.ROLE_ANNOTATION: role})


def _components(trees: _Trees) -> set[sbom.Component]:
    """Return every Python distribution of the images."""
    roots = [trees.application, *(item.tree for item in trees.dependencies.values() if item is not None)]
    return {sbom.python(file.read_bytes()) for root in roots for file in root.glob("*.dist-info/METADATA")}
