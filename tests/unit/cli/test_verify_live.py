"""`sottovoce verify live`: a fresh attested session with a CVM, explained."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner, Result

from pins import pins
from sottovoce.cli import probe
from sottovoce.cli.main import cli
from sottovoce.simulator.testing import NOW, EvidenceWorld
from sottovoce.tee.sandbox import swap_is_on
from sottovoce.tlog.entries import Revocations
from tee_kit import KitRole, respond, start_cvm, stopping

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "verdict.schema.json").read_text())
Live = Callable[..., Result]


@pytest.fixture(scope="module")
def world() -> EvidenceWorld:
    return EvidenceWorld()


@pytest.fixture
def live(world: EvidenceWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    """The command, on a device whose directory is at hand."""
    (tmp_path / "environment.json").write_bytes(msgspec.json.encode(pins(world)))

    def run(
        address: tuple[str, int],
        *options: str,
        hosts: tuple[Any, ...] | None = None,
        revocations: Revocations | None = None,
    ) -> Result:
        async def directory(*_: Any) -> Any:
            listed = tuple(world.hosts.values()) if hosts is None else hosts
            content = SimpleNamespace(hosts=listed, revocations=revocations or Revocations())
            return SimpleNamespace(directory=content, checkpoint=None, history=None)

        monkeypatch.setattr(probe, "_directory", directory)
        monkeypatch.setattr(time, "time", lambda: NOW)
        url = f"tcp://{address[0]}:{address[1]}"
        return CliRunner().invoke(cli, ["--home", str(tmp_path), "verify", "live", url, *options])

    return run


async def nothing(_: Any, receive: Any, send: Any) -> None:
    await respond(send, 200, (await receive())["body"])


def failed(result: Result) -> set[str]:
    document = json.loads(result.stdout)
    jsonschema.validate(document, SCHEMA)
    return {line["id"] for line in document["checks"] if line["status"] == "fail"}


def test_a_cvm_is_explained_and_held_to_the_role_that_was_asked_for(live: Live, world: EvidenceWorld) -> None:
    cvm = start_cvm(world, KitRole("guard", lambda _: nothing), lock_memory=swap_is_on())
    with stopping(cvm):
        result = live(cvm.address, "--role", "guard", "--json")
        assert (result.exit_code, failed(result)) == (0, set())
        document = json.loads(result.stdout)
        assert (document["platform"], document["simulated"], document["at"]) == ("session", True, NOW)
        assert "SIMULATED HARDWARE" in (text := live(cvm.address, "--role", "guard").stdout)
        assert "ACCEPTED  session, policy strict" in text
        for role, checks in (
            ("predictor", {"role", "host"}),
            ("orchestrator", {"role", "host", "backend-predictor", "backend-guard"}),
        ):
            result = live(cvm.address, "--role", role, "--json")
            assert (result.exit_code, failed(result)) == (1, checks)
        others = (world.hosts["predictor"],)
        assert failed(live(cvm.address, "--role", "guard", "--json", hosts=others)) == {"host"}
        revoked = Revocations(hosts=frozenset({world.hosts["guard"].id}))
        assert failed(live(cvm.address, "--role", "guard", "--json", revocations=revoked)) == {"host"}


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()
        thread.join(10)


def hang_up(connection: socket.socket) -> None:
    connection.recv(65536)


def nonsense(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.recv(65536)


def no_tls(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"\0\0\0\5hello")
    connection.recv(65536)


def silence(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def drops(connection: socket.socket) -> None:
    """Empty turns for ever, each in time."""
    for _ in range(100):
        connection.sendall(b"\0\0\0\0")
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [hang_up, nonsense, no_tls, silence, drops])
def test_who_shows_no_evidence_is_no_cvm(
    live: Live, answer: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_TIMEOUT", 0.4)
    with server(answer) as address:
        result = live(address, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("sottovoce: ")
