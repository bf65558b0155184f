"""A port that somebody else has: told before the server starts, with who and what to do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import parts


@pytest.fixture
def taken() -> Iterator[tuple[str, int]]:
    """A port with a listener, on a loopback address that nothing else uses."""
    with socket.create_server(("127.0.0.9", 0)) as listener:
        yield listener.getsockname()[:2]


def test_postgres_does_not_start_on_a_port_that_is_taken_at_one_of_its_addresses(
    taken: tuple[str, int], tmp_path: Path
) -> None:
    address, port = taken
    server = parts.Postgres(tmp_path, listen=("127.0.0.1", address), port=port)
    with pytest.raises(parts.MissingPartError) as caught:
        server.start()
    told = str(caught.value)
    assert f"PostgreSQL cannot listen on {address}:{port}: another program does" in told
    assert "mend: start this again, which chooses another port" in told
    assert f"ss -ltnp 'sport = :{port}'" in told


def test_openbao_does_not_start_on_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = parts.OpenBao(tmp_path, port=listener.getsockname()[1])
        with pytest.raises(parts.MissingPartError, match=r"OpenBao cannot listen on 127\.0\.0\.1"):
            server.start()


def test_a_port_that_was_let_go_is_free_at_once(taken: tuple[str, int]) -> None:
    address, port = taken
    with socket.create_connection(taken):
        pass
    parts.require_free("PostgreSQL", ("127.0.0.1",), port)
    assert parts._is_taken(address, port)


def test_a_port_is_chosen_that_is_free_at_every_address(
    taken: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    is_taken = parts._is_taken

    def first_is_taken(address: str, port: int) -> bool:
        asked.append(port)
        return len(asked) == 1 or is_taken(address, port)

    monkeypatch.setattr(parts, "_is_taken", first_is_taken)
    assert parts.free_port("127.0.0.1", taken[0]) == asked[-1]
    assert len(asked) >= 2


def test_an_address_this_machine_has_not_is_another_error() -> None:
    with pytest.raises(OSError, match="Cannot assign"):
        parts.require_free("PostgreSQL", ("192.0.2.1",), 5432)
