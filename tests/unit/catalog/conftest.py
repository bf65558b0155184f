"""A store with signed releases made of small layers: everything but the weight is as `wellhead publish` makes it."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wellhead.catalog import keys, trust, verify
from wellhead.catalog.signature import Statement
from wellhead.images import build, layer, layout, provenance, sbom
from wellhead.lifecycle import publish
from wellhead.manifest import load

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
MANIFEST = Path(__file__).parents[2] / "images/tiny/manifest.yaml"


@dataclass
class Shop:
    """A store, its publisher and the operator's trust; `make` and `publish` add releases."""

    folder: Path
    store: layout.Layout
    key: keys.PrivateKey
    trust: trust.Trust
    now: datetime = NOW
    built: dict[tuple[str, str], build.Built] = field(default_factory=dict)

    def make(self, connector: str = "dev/tiny", version: str = "1.0.0", content: bytes = b"x = 1\n") -> build.Built:
        text = MANIFEST.read_text().replace("id: dev/tiny", f"id: {connector}")
        loaded = load.parse(text.replace("version: 1.0.0", f"version: {version}").encode())
        tar = io.BytesIO()
        layer.write([layer.Entry.file("opt/wellhead/app/tiny.py", content)], tar)
        tar.seek(0)
        packed = layer.pack(tar, self.folder / "layer.tar.gz")
        stacks = {"linux/amd64": build.Stack([packed, packed])}
        parts = [sbom.Component("pypi", "tiny", version)]
        return build.assemble(loaded, stacks, parts, provenance.Making(), self.store)

    def statement(self, built: build.Built) -> Statement:
        return publish.statement_of(built, self.now)

    def publish(self, connector: str = "dev/tiny", version: str = "1.0.0") -> build.Built:
        built = self.make(connector, version)
        verify.attach(self.store, self.statement(built), self.key)
        return built

    def verify(self, built: build.Built, version: str | None = None) -> verify.VerifiedRelease:
        return verify.verify_release(
            self.store, built.index_digest, built.connector, version or built.version, self.trust
        )

    def blob(self, digest: str) -> Path:
        return self.store.path / "blobs" / "sha256" / digest.removeprefix("sha256:")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    key = keys.new_pair(tmp_path / "keys", "publisher")
    trust.add(tmp_path / "trust.yaml", "dev", key.public, "tests")
    return Shop(tmp_path, layout.Layout.create(tmp_path / "store"), key, trust.load(tmp_path / "trust.yaml"))


@pytest.fixture
def flip() -> Callable[[Path], None]:
    """Change one byte in the middle of a file, keeping its length."""

    def change(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    return change
