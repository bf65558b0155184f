"""A manifest as bytes, as a document with line numbers, and as a model; the three always travel together."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from wellhead import documents
from wellhead.manifest.model import Manifest

FILE_NAME = "manifest.yaml"


@dataclass(frozen=True, slots=True)
class LoadedManifest:
    """A manifest that has the right shape; `lint` says whether it is sound.

    ``sha256`` is that of ``content``, the file's bytes; the connector answers it in Describe.
    """

    manifest: Manifest
    sha256: str
    content: bytes
    document: documents.Document

    def canonical_json(self) -> bytes:
        """Return the document as JSON with sorted keys and no spaces: quick to read again, equal for equal content."""
        return json.dumps(self.document.data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def load(path: Path) -> LoadedManifest:
    """Read a manifest file, or the ``manifest.yaml`` of a connector's folder.

    Raises:
        ConfigurationError: unreadable, no YAML, or not of the right shape (WH-DOC-…), with every mistake and its line.
    """
    file = path / FILE_NAME if path.is_dir() else path
    document = documents.read(file)
    return _loaded(file.read_bytes(), document)


def parse(content: bytes, file: str = FILE_NAME) -> LoadedManifest:
    """Turn bytes into a manifest; raises like `load`."""
    return _loaded(content, documents.parse(content, file))


def _loaded(content: bytes, document: documents.Document) -> LoadedManifest:
    manifest = documents.validate(Manifest, document)
    return LoadedManifest(manifest, hashlib.sha256(content).hexdigest(), content, document)


def from_canonical_json(content: bytes) -> Manifest:
    """Read what `LoadedManifest.canonical_json` wrote; for a manifest that was checked when it was published.

    Raises:
        ConfigurationError: it is not of the right shape for this version of the program (WH-DOC-003).
    """
    document = documents.Document("the release's manifest", json.loads(content), {})
    return documents.validate(Manifest, document)
