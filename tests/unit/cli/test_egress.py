"""`wellhead egress`: verdicts for people and for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from wellhead.cli.egress import app, split
from wellhead.errors import UsageError

TENANT = ("--set", "server=db.tenant.test", "--set", "server_port=5432")
MANIFEST = Path(__file__).parents[1] / "manifest" / "example.yaml"


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


def answers(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_classify_answers_each_address_with_its_reason() -> None:
    assert answers(run("classify", "--json", "8.8.8.8", "169.254.169.254", "0x7f.1")) == [
        {"input": "8.8.8.8", "verdict": "allow", "reason": "public"},
        {"input": "169.254.169.254", "verdict": "deny", "reason": "metadata"},
        {"input": "0x7f.1", "verdict": "deny", "reason": "not_an_address"},
    ]


def test_a_grant_opens_a_private_range_and_metadata_never() -> None:
    told = answers(
        run("classify", "--json", "--grant", "10.1.0.0/16", "--grant", "0.0.0.0/0", "10.1.2.3", "169.254.169.254")
    )
    assert [(answer["verdict"], answer["reason"]) for answer in told] == [("allow", "granted"), ("deny", "metadata")]


def test_without_arguments_each_line_of_standard_input_is_a_case() -> None:
    told = answers(run("classify", "--json", stdin="1.1.1.1\n\n 1.1.1.1\r\n::1"))
    assert [(answer["input"], answer["verdict"]) for answer in told] == [
        ("1.1.1.1", "allow"),
        ("", "deny"),
        (" 1.1.1.1", "deny"),
        ("::1", "deny"),
    ]


def test_for_people_a_case_is_one_line() -> None:
    assert run("classify", "8.8.8.8").stdout == "allow  8.8.8.8  public\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("classify", "--grant", "10.0.0.1/8", "10.0.0.1"),
        ("classify", "--grant", "everything", "10.0.0.1"),
        ("check", "--manifest", "/nonexistent/manifest.yaml", "a.test"),
        ("check", "--manifest", str(MANIFEST), "--set", "novalue", "a.test"),
        ("check", "--manifest", str(MANIFEST), "--approve", "noport", "a.test"),
        ("check", "--manifest", str(MANIFEST), "--approve", "a.test:port", "a.test"),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    raised = run(*arguments).exception
    assert isinstance(raised, UsageError)
    assert raised.exit_code == 2
    assert raised.hint


def test_standard_input_that_is_not_text_is_a_usage_error() -> None:
    assert isinstance(run("classify", stdin=b"1.1.1.1\n\xff\xfe\n").exception, UsageError)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """The example with ways out of its own."""
    document = YAML(typ="safe").load(MANIFEST)
    document["network"] = {
        "egress": [
            {"host": "api.good.test"},
            {"host": "*.files.good.test", "port": 8443},
            {"host": "${config.server}", "port": "${config.server_port}", "open": "operator", "protocol": "postgresql"},
        ],
    }
    document["config"]["schema"]["properties"] |= {"server": {"type": "string"}, "server_port": {"type": "integer"}}
    file = tmp_path / "manifest.yaml"
    with file.open("w") as opened:
        YAML(typ="safe").dump(document, opened)
    return file


def test_check_answers_by_the_manifest(manifest: Path) -> None:
    told = answers(
        run(
            *(
                "check",
                "--json",
                "--manifest",
                str(manifest),
                "--set",
                "server=db.tenant.test",
                "--set",
                "server_port=5432",
            ),
            *("api.good.test", "API.good.test.:443", "api.good.test:80", "evil.test", "a.files.good.test:8443"),
            *("db.tenant.test:5432", "127.0.0.1", "[::1]:443", "::1", "api.good.test:x"),
        )
    )
    assert [(answer["verdict"], answer["reason"]) for answer in told] == [
        ("allow", "listed"),
        ("allow", "listed"),
        ("deny", "unlisted_port"),
        ("deny", "unlisted_host"),
        ("allow", "listed"),
        ("deny", "needs_approval"),
        ("deny", "literal_address"),
        ("deny", "literal_address"),
        ("deny", "literal_address"),
        ("deny", "invalid_port"),
    ]


@pytest.mark.parametrize(
    ("approval", "verdict"),
    [
        ("db.tenant.test:5432", "allow"),
        ("DB.tenant.test:5432", "allow"),
        ("db.tenant.test:5433", "deny"),
        ("other.tenant.test:5432", "deny"),
    ],
)
def test_an_approval_opens_exactly_its_host_and_port(manifest: Path, approval: str, verdict: str) -> None:
    [told] = answers(
        run(
            *(
                "check",
                "--json",
                "--manifest",
                str(manifest),
                "--set",
                "server=db.tenant.test",
                "--set",
                "server_port=5432",
            ),
            *("--approve", approval, "db.tenant.test:5432"),
        )
    )
    assert told["verdict"] == verdict


def test_an_entry_that_renders_to_an_address_opens_nothing_and_says_so(manifest: Path) -> None:
    result = run(
        *("check", "--json", "--manifest", str(manifest), "--set", "server=169.254.169.254", "--set", "server_port=80"),
        *("--approve", "169.254.169.254:80", "169.254.169.254:80", "api.good.test"),
    )
    assert [answer["verdict"] for answer in answers(result)] == ["deny", "allow"]
    assert "opens nothing" in result.stderr


@pytest.mark.parametrize(
    ("case", "host", "port"),
    [
        ("a.test", "a.test", 443),
        ("a.test:80", "a.test", 80),
        ("a.test:", "a.test", None),
        ("a.test:080000", "a.test", None),
        ("a.test:-1", "a.test", None),
        ("a.test:٤٤٣", "a.test", None),
        ("[::1]", "[::1]", 443),
        ("[::1]:80", "[::1]", 80),
        ("[::1]x", "[::1]x", 443),
        ("::1", "::1", 443),
        ("a:b:c", "a:b:c", 443),
        ("", "", 443),
    ],
)
def test_a_case_is_split_into_host_and_port(case: str, host: str, port: int | None) -> None:
    assert split(case) == (host, port)
