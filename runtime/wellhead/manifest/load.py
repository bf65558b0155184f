"""A manifest as bytes, as a document with line numbers, and as a model; the three always travel together.

A stream's schema may stand in a file beside the manifest. Document and model hold what is in it: a release carries its
streams' schemas, and two releases are compared by them and not by names of files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wellhead import documents
from wellhead.documents import Document, Model
from wellhead.errors import Code, ConfigurationError
from wellhead.manifest.model import Compatibility, Manifest

FILE_NAME = "manifest.yaml"

BAD_SCHEMA_FILE = Code("WH-MAN-140", "The file with a stream's schema is not usable.")


@dataclass(frozen=True, slots=True)
class LoadedManifest:
    """A manifest that has the right shape; `lint` says whether it is sound.

    ``sha256`` is that of the file's bytes; the connector answers it in Describe.
    """

    manifest: Manifest
    sha256: str
    document: documents.Document

    def canonical_json(self) -> bytes:
        """Return the document as JSON with sorted keys and no spaces: quick to read again, equal for equal content."""
        return json.dumps(self.document.data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def load(path: Path) -> LoadedManifest:
    """Read a manifest file, or the ``manifest.yaml`` of a connector's folder, with the schema files it names.

    Raises:
        ConfigurationError: unreadable, no YAML, or not of the right shape (WH-DOC-…), with every mistake and its line;
            a schema file lies outside the manifest's folder or holds no schema (WH-MAN-140).
    """
    file = path / FILE_NAME if path.is_dir() else path
    document = documents.read(file)
    documents.validate(Manifest, document)
    return _loaded(_with_schemas(document, file.parent))


def parse(content: bytes, file: str = FILE_NAME) -> LoadedManifest:
    """Turn bytes into a manifest, which names schema files where it does; raises like `load`."""
    return _loaded(documents.parse(content, file))


def _loaded(document: Document) -> LoadedManifest:
    manifest = documents.validate(Manifest, document)
    return LoadedManifest(manifest, hashlib.sha256(document.content).hexdigest(), document)


def _with_schemas(document: Document, folder: Path) -> Document:
    """Return a document of the right shape with the content of every schema file in the place of its name."""
    streams = [
        {**stream, "schema": _schema(document, number, stream["schema"], folder)}
        if isinstance(stream.get("schema"), str)
        else stream
        for number, stream in enumerate(document.data.get("streams") or ())
    ]
    return replace(document, data={**document.data, "streams": streams}) if streams else document


def _schema(document: Document, stream: int, name: str, folder: Path) -> Mapping[str, Any]:
    path = folder / name
    if folder.resolve() not in path.resolve().parents:
        raise _unusable(document, stream, f"{name} lies outside the manifest's folder")
    found = documents.read(path).data
    if not isinstance(found, dict):
        raise _unusable(document, stream, f"{name} holds no object")
    return found


def _unusable(document: Document, stream: int, why: str) -> ConfigurationError:
    return ConfigurationError(
        why,
        code=BAD_SCHEMA_FILE,
        hint="name a JSON or YAML file with one JSON Schema, beside manifest.yaml or below it",
        place=document.place(("streams", stream, "schema")),
    )


def from_canonical_json(content: bytes) -> Manifest:
    """Read what `LoadedManifest.canonical_json` wrote; for a manifest that was checked when it was published.

    Raises:
        ConfigurationError: it is not of the right shape for this version of the program (WH-DOC-003).
    """
    return _known(Manifest, Document("the release's manifest", content, json.loads(content), {}))


def of_release(connector: str, version: str, said: Mapping[str, Any]) -> Manifest:
    """Read the manifest that stands with a release in the registry, where a newer Wellhead may have put it.

    Raises:
        ConfigurationError: it says what this version of the program does not know (WH-DOC-003).
    """
    return _read(Manifest, connector, version, said)


def compatibility_of(connector: str, version: str, said: Mapping[str, Any]) -> Compatibility:
    """Read of such a manifest which states the release reads, whatever else it says; raises the same."""
    return _read(Compatibility, connector, version, said.get("compatibility", {}))


def _read(model: type[Model], connector: str, version: str, said: Mapping[str, Any]) -> Model:
    return _known(model, Document(f"the manifest of {connector} {version}", b"", dict(said), {}))


def _known(model: type[Model], document: Document) -> Model:
    """Read what was sound when it was published: nobody can mend it here."""
    try:
        return documents.validate(model, document)
    except ConfigurationError as error:
        error.hint = "a newer Wellhead has published it: upgrade Wellhead on this host, or choose another release"
        raise
