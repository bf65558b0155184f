"""`wellhead connection`: what is said to have been done was done, and what is written is what was said."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests import tiny
from tests.integration.stores import releases
from tests.parts import ROOT
from tests.project import Outcome, Project, Warm
from wellhead.connections import load
from wellhead.ids import ConnectorId
from wellhead.settings import load as load_settings

pytestmark = pytest.mark.slow

PG = ConnectorId("dev/pg")
#: Two policies that wait for a person.
ASKING = """\
name: {name}
description: A person looks at it first.
when: [onboarding, run]
if: "true"
effect: require_approval
message: somebody has to look at it
mend: ask somebody
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with `dev/tiny`, whose streams are known beforehand, and `dev/pg`, whose host the operator opens."""
    folder = tmp_path_factory.mktemp("made")
    project = Warm(folder / "project")
    project.root.mkdir()
    project.must("init")
    tiny.publish(project, "1.0.0")
    text = (ROOT / "connectors/postgres/manifest.yaml").read_text()
    manifest = folder / "manifest.yaml"
    manifest.write_text(text.replace("id: wellhead/postgres", "id: dev/tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(releases, "MANIFEST", manifest)
        tiny.publish(project, "1.0.0", connector=PG)
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """A copy of it that a test may change."""
    return made.copy(tmp_path)


def connected(project: Project, *hosts: str) -> Project:
    """Let `shop` read from `db.x.com` and open the hosts named; two policies ask about it."""
    config = {"host": "db.x.com", "database": "shop"}
    secrets = {"username": "env://USER", "password": "env://WORD"}
    project.connect("shop", PG, ["public.orders"], config=config, secrets=secrets)
    for name in ("looked-at", "looked-at-twice"):
        (project.root / "manifests/policies" / f"{name}.yaml").write_text(ASKING.format(name=name))
    for host in hosts:
        project.must("connection", "approve", "shop", host)
    return project


def in_force(project: Project) -> list[str]:
    """Return what the registry says is approved now."""
    with closing(sqlite3.connect(project.root / ".wellhead/registry.db")) as opened:
        hosts = opened.execute("select host || ':' || port from approvals where revoked_at is null").fetchall()
        policies = opened.execute("select policy from policy_approvals where revoked_at is null").fetchall()
    return sorted(name for (name,) in hosts + policies)


def test_a_host_that_was_opened_is_closed(project: Project) -> None:
    connected(project, "db.x.com:5432")
    assert (
        "closed DB.x.com:5432 for shop"
        in project.must("connection", "approve", "shop", "DB.x.com:5432", "--revoke").stdout
    )
    assert in_force(project) == []


@pytest.mark.parametrize("wrong", ["db.y.com:5432", "db.x.com:5433"])
def test_closing_what_is_not_open_is_an_error_that_names_what_is(project: Project, wrong: str) -> None:
    connected(project, "db.x.com:5432")
    refused = project.call("connection", "approve", "shop", wrong, "--revoke")
    assert (refused.exit_code, refused.stderr.split()[0], refused.stdout) == (2, "WH-CLI-076", "")
    assert f"{wrong} is not open" in refused.stderr
    assert "open for shop: db.x.com:5432" in refused.stderr


def test_of_several_that_are_to_be_closed_none_is_where_one_is_not_open(project: Project) -> None:
    connected(project, "db.x.com:5432")
    project.must("connection", "approve", "shop", "--policy", "looked-at")
    for named in (
        ["db.x.com:5432", "db.y.com:5432"],
        ["db.x.com:5432", "--policy", "nosuch"],
        ["db.y.com:5432", "--policy", "looked-at"],
        ["--policy", "looked-at", "--policy", "looked-at-twice"],
    ):
        refused = project.call("connection", "approve", "shop", *named, "--revoke")
        assert (refused.exit_code, refused.stderr.split()[0]) == (2, "WH-CLI-076")
        assert in_force(project) == ["db.x.com:5432", "looked-at"]
    project.must("connection", "approve", "shop", "db.x.com:5432", "--policy", "looked-at", "--revoke")
    assert in_force(project) == []


def test_a_policy_that_was_not_approved_is_not_taken_back(project: Project) -> None:
    connected(project)
    project.must("connection", "approve", "shop", "--policy", "looked-at")
    refused = project.call("connection", "approve", "shop", "--policy", "nosuch", "--revoke")
    assert (refused.exit_code, refused.stderr.split()[0]) == (2, "WH-CLI-076")
    assert "policies approved: looked-at" in refused.stderr


@pytest.mark.parametrize("port", ["99999999", "0", "65536", "²", "-1"])
def test_a_port_that_is_none_is_refused(project: Project, port: str) -> None:
    connected(project)
    for options in ([], ["--revoke"]):
        refused = project.call("connection", "approve", "shop", f"db.x.com:{port}", *options)
        assert (refused.exit_code, refused.stderr.split()[0]) == (2, "WH-CLI-071")


def added(project: Project, *words: str) -> Outcome:
    """Call `connection add` with one parameter more than it needs for each of the words."""
    needed = ("--set", "host=db.x.com", "--secret", "username=env://USER", "--secret", "password=env://WORD")
    named = [part for word in words for part in ("--set", word)]
    return project.call("connection", "add", "shop", "--connector", PG, "--stream", "public.orders", *needed, *named)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "007",
            "1.10",
            "1e3",
            "0x10",
            "1_000",
            "a #b",
            "*.csv",
            "@x",
            "%d",
            "[",
            "{",
            "a: b: c",
            '"',
            "!x",
            "on",
            "~",
        ),
        *("null", "2026-01-01", " x ", "a\nb\n", "\x85", "- a", "'", "x" * 300 + "  y " * 300),
    ],
)
def test_a_config_says_what_was_typed_where_the_connector_takes_text(project: Project, text: str) -> None:
    done = added(project, f"database={text}", "port=5433")
    assert done.exit_code == 0, done.stderr
    file = load(load_settings(project.root / "wellhead.yaml", {}), "shop", {})
    assert file.connection.config == {"host": "db.x.com", "database": text, "port": 5433}


@pytest.mark.parametrize("word", ["port=1_000", "port=0x10", "port=[", "port=@x", "port=five"])
def test_a_word_that_is_not_what_the_connector_asks_for_is_refused_and_leaves_no_file(
    project: Project, word: str
) -> None:
    refused = added(project, "database=shop", word)
    assert (refused.exit_code, refused.stderr.split()[0]) == (78, "WH-MAN-110")
    assert "config.port must be of type integer, and is text" in refused.stderr
    assert list((project.root / "connections").glob("*.yaml")) == []


def test_of_several_that_are_to_be_allowed_none_is_where_one_is_not_asked_for(project: Project) -> None:
    connected(project)
    refused = project.call("connection", "approve", "shop", "db.x.com:5432", "--policy", "nosuch")
    assert (refused.exit_code, refused.stderr.split()[0]) == (2, "WH-CLI-074")
    assert in_force(project) == []


@pytest.mark.parametrize("named", [("nonsense",), ("--policy", "nosuch")])
def test_a_release_is_not_agreed_to_where_something_else_cannot_be_meant(
    project: Project, named: tuple[str, ...]
) -> None:
    connected(project)
    refused = project.call("connection", "approve", "shop", *named, "--release", "1.0.0")
    assert (refused.exit_code, refused.stdout) == (2, "")


def test_a_connection_that_several_projects_share_is_disabled_for_all_of_them(project: Project, tmp_path: Path) -> None:
    connected(project)
    shared, link = tmp_path / "shop.yaml", project.root / "connections" / "shop.yaml"
    link.rename(shared)
    link.symlink_to(shared)
    project.must("connection", "disable", "shop")
    assert (link.is_symlink(), '"enabled": false' in shared.read_text()) == (True, True)


@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        (["rows2"], "WH-CLI-077", "dev/tiny 1.0.0 has no stream 'rows2'"),
        (["greetings", "rows2:full_refresh"], "WH-CLI-077", "has no stream 'rows2'"),
        (["greetings:incremental:id"], "WH-CLI-077", "dev/tiny 1.0.0 does not read greetings as incremental"),
        (["greetings", "greetings"], "WH-CLI-071", "--stream names greetings more than once"),
    ],
)
def test_a_stream_that_the_manifest_rules_out_is_refused_with_what_it_offers(
    project: Project, streams: list[str], code: str, said: str
) -> None:
    named = [part for stream in streams for part in ("--stream", stream)]
    refused = project.call("connection", "add", "hello", "--connector", "dev/tiny", *named)
    assert (refused.exit_code, refused.stderr.split()[0]) == (2, code)
    assert said in refused.stderr
    assert ("it offers: greetings (full_refresh)" in refused.stderr) == (code == "WH-CLI-077")
    assert list((project.root / "connections").glob("*.yaml")) == []
    project.must("connection", "add", "hello", "--connector", "dev/tiny", "--stream", "greetings")


def test_a_list_of_releases_says_whether_the_one_asked_for_or_any_at_all_is_missing(
    project: Project, tmp_path: Path
) -> None:
    said = project.must("catalog", "list", "dev/tyni").stdout
    assert ("No release of dev/tyni is published" in said, "Nothing is" in said) == (True, False)
    fresh = Warm(tmp_path / "fresh")
    fresh.root.mkdir()
    fresh.must("init")
    assert "Nothing is published" in fresh.must("catalog", "list", "dev/tyni").stdout
