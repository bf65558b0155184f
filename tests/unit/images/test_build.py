"""What is built from a folder: refusals that need no base, and a wheel's unpacking."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from wellhead.errors import ConfigurationError
from wellhead.images import base, build, layer, layout, oci, saved
from wellhead.manifest import load

TINY = Path(__file__).parents[2] / "images/tiny"


@pytest.fixture
def connector(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "tiny", ignore=shutil.ignore_patterns("__pycache__")))


def refused(connector: Path, tmp_path: Path) -> str:
    inputs = build.Inputs(tmp_path / "base.tar", tmp_path / "sdk", tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        build.build(connector, inputs, layout.Layout.create(tmp_path / "store"))
    return caught.value.code.name


def test_two_versions_of_one_connector_are_refused(connector: Path, tmp_path: Path) -> None:
    file = connector / "pyproject.toml"
    file.write_text(file.read_text().replace('"1.0.0"', '"1.0.1"'))
    assert refused(connector, tmp_path) == "WH-IMG-022"


def test_a_folder_without_a_project_is_refused(connector: Path, tmp_path: Path) -> None:
    (connector / "pyproject.toml").unlink()
    assert refused(connector, tmp_path) == "WH-IMG-022"


def test_a_platform_the_manifest_does_not_allow_is_refused(
    connector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "machine_platform", lambda: "linux/arm64")
    assert refused(connector, tmp_path) == "WH-IMG-024"


def test_a_machine_no_base_is_made_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ConfigurationError) as caught:
        base.machine_platform()
    assert caught.value.code.name == "WH-IMG-003"


def test_a_missing_mmdebstrap_is_told_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="mmdebstrap is not installed") as caught:
        base.rootfs((), tmp_path / "cache")
    assert "apt-get install" in (caught.value.hint or "")
    assert list((tmp_path / "cache").glob("*.tar")) == []


@pytest.mark.parametrize("name", ["../up.py", "/nonexistent/up.py", "x-1.0.data/scripts/run", "a/../../b"])
def test_a_wheel_with_more_than_packages_is_refused(tmp_path: Path, name: str) -> None:
    wheel = tmp_path / "x-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(ConfigurationError) as caught:
        build._unpack(wheel, tmp_path / "tree")
    assert caught.value.code.name == "WH-IMG-023"


def docker_save(tmp_path: Path, **changes: Any) -> bytes:
    """What `docker save` writes for an image of one layer."""
    inside = io.BytesIO()
    metadata = b"Name: tiny\nVersion: 1.0.0\nLicense-Expression: Apache-2.0\n"
    layer.write([layer.Entry.file("opt/x/tiny-1.0.0.dist-info/METADATA", metadata)], inside)
    diff_id = oci.digest_of(inside.getvalue())
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [diff_id]}, "config": {}} | changes
    listed = [{"Config": "c.json", "RepoTags": None, "Layers": ["l/layer.tar"]}]
    out = io.BytesIO()
    layer.write(
        [
            layer.Entry.file("manifest.json", oci.canonical(listed)),
            layer.Entry.file("c.json", oci.canonical(config)),
            layer.Entry.file("l/layer.tar", inside.getvalue()),
        ],
        out,
    )
    return out.getvalue()


def test_a_saved_image_keeps_its_id_and_lists_what_is_in_it(tmp_path: Path) -> None:
    store = layout.Layout.create(tmp_path / "store")
    content = docker_save(tmp_path)
    built = saved.take([content[:1000], content[1000:]], load.load(TINY), tmp_path, store)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        config = archive.extractfile("c.json").read()  # type: ignore[union-attr]
    assert built.images["linux/amd64"].config == oci.digest_of(config)
    index = store.document(built.index_digest, "index")
    (sbom,) = [child for child in index["manifests"] if child.get("annotations") == {oci.ROLE_ANNOTATION: "sbom"}]
    (content_of,) = store.document(sbom["digest"], "sbom")["layers"]
    components = store.document(content_of["digest"], "sbom")["components"]
    assert [(item["purl"], item["licenses"]) for item in components] == [
        ("pkg:pypi/tiny@1.0.0", [{"expression": "Apache-2.0"}])
    ]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["store"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"rootfs": {"diff_ids": ["sha256:" + "0" * 64]}}, "WH-IMG-030"),
        ({"rootfs": {"diff_ids": []}}, "WH-IMG-030"),
        ({"rootfs": {}}, "WH-IMG-030"),
        ({"architecture": "arm64"}, "WH-IMG-031"),
    ],
)
def test_a_saved_image_that_does_not_add_up_is_refused(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    store = layout.Layout.create(tmp_path / "store")
    with pytest.raises(ConfigurationError) as caught:
        saved.take([docker_save(tmp_path, **changes)], load.load(TINY), tmp_path, store)
    assert caught.value.code.name == code


@pytest.mark.parametrize("content", [b"", b"no tar", b"\0" * 10240])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError) as caught:
        saved.take([content], load.load(TINY), tmp_path, layout.Layout.create(tmp_path / "store"))
    assert caught.value.code.name == "WH-IMG-030"
