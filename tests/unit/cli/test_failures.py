"""What a command that fails tells whoever reads standard output alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from wellhead.cli import main, output
from wellhead.errors import Code, ConfigurationError, WellheadError

CODE = Code("WH-TST-001", "A test's own.")
ERROR = {"code", "category", "message", "hint", "place", "details"}
#: They answer from nothing but their arguments, or tell what is wrong with a file as what they found.
CANNOT_LACK_A_PROJECT = {("version",), ("manifest", "lint"), ("egress", "classify")}


def _walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    below = getattr(command, "list_commands", None)
    if below is None:
        yield path, command
        return
    for name in below(None):
        yield from _walk(command.get_command(None, name), (*path, name))


COMMANDS = {
    path: command
    for path, command in _walk(typer.main.get_command(main.app))
    if any("--json" in option.opts for option in command.params)
}


def _called(*arguments: str) -> Result:
    return CliRunner().invoke(main.app, list(arguments))


def _needed(command: Any) -> Iterator[str]:
    """Yield words for what a command cannot be called without; they are of the right form and name nothing."""
    for parameter in (each for each in command.params if each.required):
        if parameter.param_type_name == "option":
            yield parameter.opts[0]
        yield "dev/nothing"


@pytest.mark.parametrize("path", sorted(set(COMMANDS) - CANNOT_LACK_A_PROJECT), ids=" ".join)
def test_an_error_of_every_command_is_one_document(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = _called(*path, *_needed(COMMANDS[path]), "--json")
    document = json.loads(done.stdout)
    ended = done.exception.exit_code if isinstance(done.exception, WellheadError) else done.exit_code
    assert document["exit_code"] == ended != 0
    assert set(document["error"]) == ERROR


@pytest.mark.parametrize("path", sorted(COMMANDS), ids=" ".join)
def test_a_command_that_cannot_be_meant_is_told_as_one_document(path: tuple[str, ...]) -> None:
    done = _called(*path, "--json", "--nonsense")
    document = json.loads(done.stdout)
    assert (document["exit_code"], done.exit_code) == (2, 2)
    assert document["error"]["code"] == main.MISCALLED.name
    assert f"`wellhead {' '.join(path)} --help`" in document["error"]["hint"]
    assert "--nonsense" in done.stderr


def test_without_json_an_error_is_told_on_standard_error_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _called("streams", "flights").stdout == ""
    assert _called("streams", "--nonsense").stdout == ""


def test_what_was_found_before_an_error_stands_in_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfigurationError("two things could not be removed", code=CODE, hint="look", details=("a", "b"))
    with pytest.raises(typer.Exit) as ended:
        output.fail({"left": ["a", "b"]}, error)
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert (ended.value.exit_code, document["exit_code"], document["left"]) == (78, 78, ["a", "b"])
    assert document["error"]["details"] == ["a", "b"]
    assert told.err.startswith("WH-TST-001 two things")


def test_a_preview_of_no_project_names_code_and_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = json.loads(_called("preview", "flights", "rows", "--json").stdout)["error"]
    assert (error["code"], error["category"]) == ("WH-CFG-001", "CONFIGURATION")
    assert "wellhead init" in error["hint"]
