"""Programs that know nothing of us accept what publishing wrote: cosign and skopeo of Debian sid."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import oci_registry
from tests.integration.stores import releases
from tests.oci_registry import USERNAME, OciRegistry
from tests.parts import ROOT
from wellhead.catalog import keys
from wellhead.images.build import Built

pytestmark = pytest.mark.real


@dataclass(frozen=True)
class Verifiers:
    """A published release and what outside programs need to look at it; ``folder`` lies in /tmp, which they see."""

    folder: Path
    server: OciRegistry
    built: Built

    @property
    def repository(self) -> str:
        return f"{self.server.host}/connectors/{self.built.connector}"

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one with no way to anything but the registry."""
        environment = {**os.environ, "SSL_CERT_FILE": str(self.folder / "ca.crt")}
        environment |= {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
        return subprocess.run(
            [ROOT / "scripts/verifiers.sh", "exec", *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def cosign(self, digest: str, key: str) -> subprocess.CompletedProcess[str]:
        login = ["--registry-username", USERNAME, "--registry-password", self.server.password]
        offline = ["--insecure-ignore-tlog=true", "--offline=true"]
        public = str(self.folder / f"keys/{key}.pub")
        return self.call("cosign", "verify", "--key", public, *offline, *login, f"{self.repository}@{digest}")


@pytest.fixture(scope="module")
def verifiers() -> Iterator[Verifiers]:
    with (
        tempfile.TemporaryDirectory(prefix="wellhead-verifiers-", dir="/tmp") as name,
        oci_registry.passwords() as server,
    ):
        folder = Path(name)
        key = keys.new_pair(folder / "keys", "publisher")
        keys.new_pair(folder / "keys", "other")
        (folder / "ca.crt").write_bytes(server.tls.authority.read_bytes())
        (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (folder / "local").mkdir()
        yield Verifiers(folder, server, releases.publish(folder / "local", "dev/tiny", "1.0.0", key, server.open()))


@pytest.mark.timeout(600)
def test_cosign_accepts_the_index_and_each_image(verifiers: Verifiers) -> None:
    built = verifiers.built
    for digest in (built.index_digest, built.images["linux/amd64"].manifest):
        answer = verifiers.cosign(digest, "publisher")
        assert answer.returncode == 0, answer.stderr
        [verified] = json.loads(answer.stdout)
        assert verified["critical"]["image"]["docker-manifest-digest"] == digest
        assert "The signatures were verified against the specified public key" in answer.stderr


@pytest.mark.timeout(600)
def test_cosign_refuses_another_key(verifiers: Verifiers) -> None:
    answer = verifiers.cosign(verifiers.built.index_digest, "other")
    assert answer.returncode != 0
    assert "no matching signatures" in answer.stderr


@pytest.mark.timeout(600)
def test_skopeo_inspects_and_copies_a_release_and_its_digest_survives(verifiers: Verifiers) -> None:
    login = ["--creds", f"{USERNAME}:{verifiers.server.password}", "--cert-dir", str(verifiers.folder)]
    inspected = verifiers.call("skopeo", "inspect", *login, f"docker://{verifiers.repository}:1.0.0")
    assert inspected.returncode == 0, inspected.stderr
    assert json.loads(inspected.stdout)["Digest"] == verifiers.built.index_digest
    target = verifiers.folder / "copy"
    from_login = [option.replace("--", "--src-", 1) if option.startswith("--") else option for option in login]
    copied = verifiers.call(
        "skopeo", "copy", "--all", "--policy", str(verifiers.folder / "policy.json"), *from_login,
        f"docker://{verifiers.repository}:1.0.0", f"oci:{target}:1.0.0",
    )  # fmt: skip
    assert copied.returncode == 0, copied.stderr
    [named] = json.loads((target / "index.json").read_text())["manifests"]
    assert named["digest"] == verifiers.built.index_digest
