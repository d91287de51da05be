"""Words of a chat, looked for everywhere: on the wire, in logs, in files, in memory. Each search is shown to find what is there."""

import asyncio
import http.client
import re
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest

from canary_kit import canary
from e2e.conftest import Device, sessions_end
from residue import capturing, family, in_files, in_memory, reads_memory, sees_the_wire
from sottovoce.core.limits import LIMITS
from sottovoce.device.answers import Done, Line, LineEnd, Piece, Suggestion
from sottovoce.device.chats import read_chat
from sottovoce.device.client import Client
from sottovoce.simulator.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

_LONG_ENOUGH = 7
"""Letters of a word that does not occur in ciphertext by chance: once in 10^16 bytes."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - searched, not used
_SESSIONS_END_WITHIN = LIMITS.session_idle
"""Seconds. Who is not told that a session is over ends it later than that."""


@dataclass(frozen=True)
class Canaries:
    """One word a field, and a chat that holds them."""

    title: str
    sender: str
    text: str
    chat: Path

    @property
    def words(self) -> set[bytes]:
        return {word.encode() for word in (self.title, self.sender, self.text)}


@pytest.fixture
def canaries(tmp_path: Path) -> Canaries:
    title, sender, text = (canary(name) for name in ("titlex", "senderx", "wordx"))
    lines = [
        f"23/11/2026, 19:{minute:02} - {sender.capitalize()}: {line}"
        for minute, line in enumerate(
            [
                "Good evening everybody, about the rehearsal on Saturday",
                f"The rehearsal in the {text} hall is moved to 18:30 on Saturday, please confirm",
                f"Who brings the projector to {text}?",
                "I can bring the projector and the long cable",
            ]
        )
    ]
    chat = tmp_path / f"WhatsApp Chat with {title}.txt"
    chat.write_text("\n".join(lines) + "\n")
    return Canaries(title, sender.capitalize(), text, chat)


def _text(event: object) -> str:
    match event:
        case Line():
            return f"{event.sender} {event.text}"
        case Piece() | Suggestion():
            return event.text
    return ""


async def _ask(
    device: Device, chat: Path, at_first: list[set[int]], pids: set[int], words: set[bytes]
) -> str:
    """A summary and a rewrite; the answers' text. `at_first` gets the processes that hold the words at the first line."""
    told = ""
    async with Client(device.home) as client:
        for events in (
            client.summarize(read_chat(chat), count=40),
            client.rewrite(f"{words.copy().pop().decode()} can we meet at nine on monday", "rephrase"),
        ):
            async with aclosing(events) as stream:
                async for event in stream:
                    if isinstance(event, Line | Suggestion | LineEnd | Done) and pids:
                        holders = {pid for pid in family(pids) if in_memory(pid, words)}
                        at_first.append(holders)
                        pids = set()
                    told += " " + _text(event)
    return told


@sees_the_wire
def test_no_word_of_chat_or_answer_is_on_the_wire(world: World, device: Device, canaries: Canaries) -> None:
    with capturing() as capture:
        told = asyncio.run(_ask(device, canaries.chat, [], set(), {canaries.text.encode()}))
        # The capture sees what is in the clear: this is such a request, to a party of this world.
        _plain(world.port("mirror"), "GET", f"/{canaries.text}-control", {})
    streams = capture.streams()
    written = canaries.chat.read_text() + told
    words = {word.encode() for word in re.findall(rf"[^\W\d_]{{{_LONG_ENOUGH},}}", written)} | canaries.words
    assert canaries.text in told
    assert len(words) > 5
    ports = {
        name: world.port(name)
        for name in ("relay-1", "relay-2", "gateway", "router", "orchestrator-1", "orchestrator-2")
    }
    seen = {name for name, port in ports.items() if any(port in flow for flow in streams)}
    assert seen >= {"gateway", "router"}
    assert seen & {"relay-1", "relay-2"}
    assert seen & {"orchestrator-1", "orchestrator-2"}
    control = f"{canaries.text}-control".encode()
    carrying = [flow for flow, data in streams.items() if control in data]
    assert carrying, "the capture does not see what is in the clear"
    known = {b"Incremental", b"content-type", b"message"}
    for flow, data in streams.items():
        if flow in carrying:
            continue
        found = {word for word in words - known if word in data or word.lower() in data}
        # "session" and the like are words of the protocol, in the clear by design; nothing of the chat may be.
        assert not found, f"{flow}: {found}"


@reads_memory
def test_nothing_is_left_in_memory_logs_or_files(world: World, device: Device, canaries: Canaries) -> None:
    pids, holders = set(world.pids.values()), list[set[int]]()
    words = {canaries.text.encode(), canaries.sender.encode()}
    told = asyncio.run(_ask(device, canaries.chat, holders, pids, words))
    assert canaries.text in told
    # The search works: while the session ran, it found the words, and in processes of CVMs only.
    cvms = family(
        pid for name, pid in world.pids.items() if name[:-2] in {"orchestrator", "predictor", "guard"}
    )
    (found,) = holders
    assert found, "the words were not found while the session ran, so finding none later says nothing"
    parents = set(pids) | {child for pid in pids for child in _children(pid)}
    assert not found & set(pids)
    _wait_until_gone(found - parents)
    # The second request's processes end a moment after it; whatever else holds a word holds it still when they have.
    sessions_end(world)
    for _ in range(10):  # and not for some seconds: how long a search takes is the machine's affair
        left = {pid: here for pid in family(pids) if (here := in_memory(pid, canaries.words))}
        if not left:
            break
        time.sleep(1)
    assert left == {}
    assert in_files(world.folder, canaries.words) == {}
    assert in_files(device.home, canaries.words) == {}
    assert in_files(SHARED_MEMORY, canaries.words) == {}
    assert cvms


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait_until_gone(pids: set[int]) -> None:
    end = time.monotonic() + _SESSIONS_END_WITHIN
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end, "a session's process outlives its session"
        time.sleep(0.05)


def _plain(port: int, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body=body, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _requests(canary: str) -> Iterator[tuple[str, str, dict[str, str], bytes]]:
    """Requests with the canary in every place where a request has room."""
    long = canary * 50
    for path in (
        "/ohttp",
        "/token-request",
        "/sessions",
        f"/sessions/{canary}",
        "/entries",
        "/add-checkpoint",
        f"/{canary}",
    ):
        for kind in (
            "message/ohttp-req",
            "message/ohttp-chunked-req",
            "application/private-token-request",
            "application/private-token-generic-batch-request",
            canary,
        ):
            headers = {
                "Content-Type": kind,
                "Authorization": f"Bearer {canary}",
                "Candidates": f"{canary}, {canary}",
            }
            yield "POST", path, headers, long.encode()
    yield "GET", f"/proof?hash={canary}", {"User-Agent": canary, "Cookie": canary}, b""
    yield "DELETE", f"/sessions/{canary}", {"Authorization": f'PrivateToken token="{canary}"'}, b""


def test_no_log_holds_what_a_request_said(world: World, device: Device) -> None:
    word = canary("logx")
    answered = 0
    for name in world.pids:
        if name[:-2] in {"orchestrator", "predictor", "guard"}:
            continue
        for method, path, headers, body in _requests(word):
            answered += bool(_plain(world.port(name), method, path, headers, body))
    assert answered > 100
    done = device.run("rewrite", f"please bring {word} on monday")
    assert done.returncode == 0, done.stderr
    logs = world.folder / "logs"
    assert any(path.stat().st_size for path in logs.iterdir())
    assert in_files(logs, [word.encode()]) == {}


def test_no_log_holds_a_token_or_a_key(world: World, device: Device) -> None:
    assert device.run("rewrite", "Can we meet at nine on Monday?").returncode == 0
    secrets_ = {path.name: path.read_bytes().strip() for path in (world.folder / "keys").iterdir()}
    secrets_["account.key"] = (device.home / "account.key").read_bytes()
    logs = b"".join(path.read_bytes() for path in (world.folder / "logs").iterdir())
    assert logs
    for name, secret in secrets_.items():
        for form in (secret, secret.hex().encode(), *secret.splitlines()[1:3]):
            assert len(form) < 16 or form not in logs, name
    assert b"PrivateToken" not in logs
