"""Connection files."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from wellhead import connections, documents
from wellhead.errors import Code, ConfigurationError
from wellhead.settings import Settings

STREAM = {"name": "rows"}


def write(folder: Path, name: str = "flights", **changes: Any) -> Settings:
    (folder / "connections").mkdir(exist_ok=True)
    document = {"name": name, "connector": "dev/generator", "streams": [STREAM], **changes}
    (folder / "connections" / "flights.yaml").write_text(json.dumps(document))
    return Settings(root=folder, tenant="t", project="p")


def test_tenant_and_project_come_from_the_settings_unless_named(tmp_path: Path) -> None:
    settings = write(tmp_path)
    assert str(connections.load(settings, "flights", {}).key) == "t/p/flights"
    settings = write(tmp_path, tenant="other")
    assert str(connections.key_of(settings, "flights")) == "other/p/flights"
    assert str(connections.key_of(settings, "gone")) == "t/p/gone"


def test_the_hash_is_of_the_files_bytes(tmp_path: Path) -> None:
    first = connections.load(write(tmp_path), "flights", {}).sha256
    assert connections.load(write(tmp_path, enabled=False), "flights", {}).sha256 != first


@pytest.mark.parametrize("name", ["nowhere", "../flights", "Flights", ""])
def test_a_connection_that_is_not_there_names_those_that_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connections.load(write(tmp_path), name, {})
    assert caught.value.code == connections.UNKNOWN
    assert "known connections: flights" in (caught.value.hint or "")


def test_a_file_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connections.load(write(tmp_path, "other"), "flights", {})
    assert caught.value.code == connections.MISNAMED


def test_variables_are_replaced(tmp_path: Path) -> None:
    settings = write(tmp_path, config={"host": "${HOST:-db.example}"})
    assert connections.load(settings, "flights", {}).connection.config == {"host": "db.example"}
    assert connections.load(settings, "flights", {"HOST": "x"}).connection.config == {"host": "x"}


@pytest.mark.parametrize(
    "filters",
    [
        {"id": {"like": "x"}},
        {"id": {"=": [1, 2]}},
        {"id": {"in": 1}},
        {"id": {"is_null": "no"}},
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(tmp_path: Path, filters: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="filters"):
        connections.load(write(tmp_path, streams=[{**STREAM, "filters": filters}]), "flights", {})


def test_filters_that_can_be_meant_are_taken(tmp_path: Path) -> None:
    filters = {"id": {">": 1, "in": [1, 2], "is_null": False}}
    found = connections.load(write(tmp_path, streams=[{**STREAM, "filters": filters}]), "flights", {})
    assert found.connection.streams[0].filters == filters


def test_all_connections_are_read_by_name(tmp_path: Path) -> None:
    assert [file.connection.name for file in connections.load_all(write(tmp_path), {})] == ["flights"]


def _refused(settings: Settings, code: Code) -> None:
    """Require that nobody who asks for connections there is told that there are none."""
    for ask in (
        lambda: connections.load_all(settings, {}),
        lambda: connections.load(settings, "flights", {}),
        lambda: connections.key_of(settings, "flights"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            ask()
        assert caught.value.code == code


def test_connections_that_cannot_be_read_are_not_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = write(tmp_path)

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "connections")

    monkeypatch.setattr(os, "scandir", denied)
    monkeypatch.setattr(Path, "is_file", denied)
    _refused(settings, documents.UNREADABLE)


def test_a_folder_that_can_be_listed_and_not_looked_into_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write(tmp_path)

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "connections")

    monkeypatch.setattr(Path, "is_file", denied)
    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(ConfigurationError, match=r"flights\.yaml: Permission denied"):
        connections.load(settings, "flights", {})


def test_a_folder_that_was_named_and_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    _refused(write(tmp_path).model_copy(update={"connections": Path("elsewhere")}), documents.NO_FOLDER)
    _refused(write(tmp_path).model_copy(update={"connections": Path("connections/flights.yaml")}), documents.UNREADABLE)


def test_a_new_project_has_no_connections_except_for_who_deletes_by_them(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, tenant="t", project="p")
    assert connections.load_all(settings, {}) == []
    assert str(connections.key_of(settings, "gone")) == "t/p/gone"
    with pytest.raises(ConfigurationError) as caught:
        connections.load_all(settings, {}, must_be_there=True)
    assert caught.value.code == documents.NO_FOLDER


def test_a_connection_under_a_name_that_is_not_read_is_refused(tmp_path: Path) -> None:
    settings = write(tmp_path)
    (tmp_path / "connections" / "other.yml").touch()
    with pytest.raises(ConfigurationError, match=r"other\.yml") as caught:
        connections.load_all(settings, {})
    assert caught.value.code == documents.MISNAMED
    assert connections.load(settings, "flights", {}).connection.name == "flights"


FILE = """\
# about flights
name:   flights   # as the airline says
connector: dev/generator
config:
    where: "a text that is so long that no one who looks at it would want it to be wrapped by a program, ever"
    list: [1,2,   3]
streams:
  - name: rows
"""


def text(folder: Path, content: str) -> tuple[Settings, Path]:
    (folder / "connections").mkdir(exist_ok=True)
    file = folder / "connections" / "flights.yaml"
    file.write_bytes(content.encode())
    return Settings(root=folder, tenant="t", project="p"), file


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FILE, FILE + "enabled: false\n"),
        (FILE.rstrip(), FILE + "enabled: false\n"),
        (FILE.replace("\n", "\r\n"), FILE.replace("\n", "\r\n") + "enabled: false\r\n"),
        ("enabled: true # since May\n" + FILE, "enabled: false # since May\n" + FILE),
        (FILE + "'enabled' :  \"yes\"\n# end\n", FILE + "'enabled' :  false\n# end\n"),
        ("\ufeff" + FILE, FILE + "enabled: false\n"),
        ("enabled: no\n" + FILE, "enabled: no\n" + FILE),
        (FILE + "...\n", FILE.replace("name:   f", "enabled: false\nname:   f", 1) + "...\n"),
        ("---\n" + FILE + "...\n", "---\n" + FILE.replace("name:   f", "enabled: false\nname:   f", 1) + "...\n"),
        (
            "# {a comment}\n{name: flights, connector: dev/generator, streams: [{name: rows}]}\n",
            '# {a comment}\n{"enabled": false, name: flights, connector: dev/generator, streams: [{name: rows}]}\n',
        ),
        (
            FILE + "secrets:\n  a: |\n    env://A",
            FILE.replace("name:   f", "enabled: false\nname:   f", 1) + "secrets:\n  a: |\n    env://A",
        ),
        (FILE + "enabled:\n  true\n", FILE + "enabled:\n  false\n"),
        (FILE + "mounts: {enabled: a}\nenabled: true\n", FILE + "mounts: {enabled: a}\nenabled: false\n"),
        (
            '{"name": "flights", "connector": "dev/generator", "streams": [{"name": "rows"}]}',
            '{"enabled": false, "name": "flights", "connector": "dev/generator", "streams": [{"name": "rows"}]}',
        ),
        (
            '{"name": "flights", "connector": "dev/generator", "streams": [{"name": "rows"}], "enabled" : true}',
            '{"name": "flights", "connector": "dev/generator", "streams": [{"name": "rows"}], "enabled" : false}',
        ),
    ],
)
def test_a_connection_is_disabled_by_one_word(tmp_path: Path, before: str, after: str) -> None:
    settings, file = text(tmp_path, before)
    connections.set_enabled(settings, "flights", {}, enabled=False)
    assert file.read_bytes().decode() == after
    assert connections.load(settings, "flights", {}).connection.enabled is False


def test_what_is_enabled_is_left_as_it_is(tmp_path: Path) -> None:
    settings, file = text(tmp_path, FILE)
    connections.set_enabled(settings, "flights", {}, enabled=True)
    assert file.read_text() == FILE


@pytest.mark.parametrize(
    "content",
    [
        FILE + "enabled: ${ON:-true}\n",
        FILE + "enabled: &on true\n",
    ],
)
def test_what_cannot_be_changed_by_one_word_is_left_to_its_people(tmp_path: Path, content: str) -> None:
    settings, file = text(tmp_path, content)
    with pytest.raises(ConfigurationError) as caught:
        connections.set_enabled(settings, "flights", {}, enabled=False)
    assert caught.value.code == connections.BY_HAND
    assert "enabled: false" in (caught.value.hint or "")
    assert file.read_text() == content


def test_what_another_process_writes_meanwhile_is_not_lost(tmp_path: Path) -> None:
    settings, file = text(tmp_path, FILE)
    other = threading.Thread(target=connections.set_enabled, args=(settings, "flights", {}), kwargs={"enabled": False})
    with connections.changing(file):
        other.start()
        # It has to wait for the lock all that time; without one it would be done.
        other.join(0.5)
        connections.replace(file, FILE + "version: ^2\n")
    other.join()
    assert file.read_text() == FILE + "version: ^2\nenabled: false\n"


def test_of_two_who_add_a_connection_at_once_one_does(tmp_path: Path) -> None:
    settings, file = text(tmp_path, "")
    file.unlink()
    done: list[bool] = []
    other = threading.Thread(target=lambda: done.append(connections.create(file, "another's")))
    with connections.changing(file):
        other.start()
        other.join(0.5)
        connections.replace(file, FILE)
    other.join()
    assert (done, file.read_text()) == ([False], FILE)
    assert connections.load(settings, "flights", {}).connection.name == "flights"


def test_a_file_is_exchanged_only_where_nobody_has_changed_it(tmp_path: Path) -> None:
    _, file = text(tmp_path, FILE)
    assert not connections.exchange(file, "other", "new")
    assert not connections.exchange(file, "other", None)
    assert file.read_text() == FILE
    assert connections.exchange(file, FILE, "new")
    assert file.read_text() == "new"
    assert connections.exchange(file, "new", None)
    assert not file.exists()
    assert not connections.exchange(file, "new", None)
