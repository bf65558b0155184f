"""What a command that failed leaves behind: nothing that keeps the corrected command from doing its work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.project import Project, Warm

pytestmark = pytest.mark.slow


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    """A folder in which no project is."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Warm(folder)


@pytest.fixture
def project(empty: Project) -> Project:
    """A fresh project."""
    empty.must("init")
    return empty


def pairs(project: Project) -> list[str]:
    return sorted(path.name for path in (project.root / ".wellhead/keys").glob("*"))


@pytest.mark.parametrize("scope", ["Acme", "acme/*", "a/b/c", ""])
def test_a_scope_that_is_none_is_refused_by_its_flag_before_a_pair_is_made(project: Project, scope: str) -> None:
    before = (project.root / "trust.yaml").read_bytes()
    refused = project.call("keys", "new", "rel", "--trust", scope)
    assert (refused.exit_code, refused.stderr.split()[0]) == (2, "WH-CLI-111")
    assert f"--trust {scope!r}" in refused.stderr
    assert (pairs(project), (project.root / "trust.yaml").read_bytes()) == (["dev.key", "dev.pub"], before)
    project.must("keys", "new", "rel", "--trust", "acme")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("keys: {}\n", "WH-DOC-003"),
        ("namespaces: {dev: null}\n", "WH-DOC-003"),
        ("keys:\n", "WH-DOC-003"),
        ("[]\n", "WH-DOC-003"),
        ("keys: [\n", "WH-DOC-002"),
        ("namespaces: {dev: {allow_unsigned: true}}\n", "WH-CAT-012"),
    ],
)
def test_a_trust_file_that_cannot_take_a_key_is_named_and_leaves_no_pair(
    project: Project, text: str, code: str
) -> None:
    file = project.root / "trust.yaml"
    before = file.read_bytes()
    file.write_text(text)
    refused = project.call("keys", "new", "rel", "--trust", "dev")
    assert (refused.exit_code, refused.stderr.split()[0]) == (78, code)
    assert ("trust.yaml" in refused.stderr, ".new" in refused.stderr) == (True, False)
    assert (pairs(project), file.read_text()) == (["dev.key", "dev.pub"], text)
    file.write_bytes(before)
    project.must("keys", "new", "rel", "--trust", "dev")


def test_a_trust_file_of_comments_alone_takes_a_key(project: Project) -> None:
    (project.root / "trust.yaml").write_text("# nobody yet\n")
    project.must("keys", "list")
    project.must("keys", "new", "rel", "--trust", "acme")


def test_a_project_that_could_not_be_made_is_made_by_the_corrected_command(empty: Project) -> None:
    refused = empty.call("init", env={"WELLHEAD__RUN__TOTAL_S": "abc"})
    assert refused.exit_code == 78
    assert not (empty.root / "wellhead.yaml").exists()
    empty.must("init")
    assert "dev.key" in pairs(empty)
    assert (empty.root / "trust.yaml").exists()


def test_a_project_beside_a_broken_trust_file_is_made_once_that_is_mended(empty: Project) -> None:
    file = empty.root / "trust.yaml"
    file.write_text("keys: {}\n")
    refused = empty.call("init")
    assert (refused.exit_code, refused.stderr.split()[0]) == (78, "WH-DOC-003")
    assert (file.read_text(), pairs(empty)) == ("keys: {}\n", [])
    file.unlink()
    empty.must("init")


def test_a_project_is_made_anew_with_the_pair_that_is_there(project: Project) -> None:
    (project.root / "wellhead.yaml").unlink()
    key = (project.root / ".wellhead/keys/dev.key").read_bytes()
    project.must("init")
    assert (project.root / ".wellhead/keys/dev.key").read_bytes() == key


@pytest.mark.parametrize("name", ["f.txt", "f.txt/below"])
def test_a_project_is_not_made_in_a_file(empty: Project, name: str) -> None:
    (empty.root / "f.txt").write_text("text")
    refused = empty.call("init", name)
    assert (refused.exit_code, refused.stderr.split()[0]) == (78, "WH-CLI-051")
