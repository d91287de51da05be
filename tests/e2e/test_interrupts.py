"""Ending at any moment: nothing is left running, nothing is lost, and what was going on in a CVM ends too."""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from e2e.conftest import CHATS, Device, sessions, sessions_end, small_model, soon
from residue import family
from sottovoce.core.limits import LIMITS
from sottovoce.device.reports import ReportStore
from sottovoce.simulator.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

CHAT = str(CHATS / "book-club.txt")
INTERRUPTED = 130
STOPPED = {INTERRUPTED, -signal.SIGINT}
"""A shell shows both as 130. Python ends by the signal itself where it came while a library was executing a string."""


def start(device: Device, *words: str) -> "subprocess.Popen[str]":
    """`sottovoce` with these words, in the background."""
    return subprocess.Popen(
        device.command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=device.variables,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[str]", number: signal.Signals) -> tuple[str, str]:
    """Send the signal to the one process, as a service manager does; what it had printed."""
    process.send_signal(number)
    return process.communicate(timeout=60)


def started(device: Device, *words: str) -> "subprocess.Popen[str]":
    """As `start`, when it is past its imports, which nothing can put away: it has said who is to hear its alarm."""
    process = start(device, *words)
    status = Path(f"/proc/{process.pid}/status")

    def hears() -> bool:
        caught = re.search(r"SigCgt:\s*(\w+)", status.read_text())
        return caught is not None and bool(int(caught[1], 16) >> (signal.SIGALRM - 1) & 1)

    assert soon(hears), "it does not start"
    return process


def mentioning(folder: Path) -> list[str]:
    """The command lines of all processes that name this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_that_is_interrupted_at_any_moment(
    world: World, device: Device, number: signal.Signals
) -> None:
    draw = random.Random(int(number))  # noqa: S311 - to have the same moments again
    before = device.ready()
    for _ in range(8):
        process = started(device, "summarize", CHAT, "--unread", "20")
        time.sleep(draw.uniform(0.2, 2.0))
        out, said = end(process, number)
        assert process.returncode in {0, *STOPPED, -number}, said
        assert "Traceback" not in said
        if process.returncode == INTERRUPTED:
            assert said.strip() == "Interrupted. Nothing is left running."
        assert mentioning(device.home) == []
        if process.returncode == 0:
            assert "• " in out
    sessions_end(world)
    assert before - 8 <= device.ready() <= before
    assert {report.outcome for report in ReportStore(device.home).list()} <= {"done", "interrupted"}
    done = device.run("summarize", CHAT, "--unread", "5")
    assert done.returncode == 0, done.stderr


def test_an_interrupted_request_is_in_the_report(device: Device) -> None:
    process = start(device, "summarize", CHAT, "--unread", "40", "--verbose")
    assert process.stdout is not None
    for line in process.stdout:
        if "• " in line:
            break
    end(process, signal.SIGINT)
    assert process.returncode == INTERRUPTED
    (report,) = ReportStore(device.home).list()
    assert report.outcome == "interrupted"
    assert report.message_count > 0


def test_a_device_that_vanishes_leaves_nothing_in_the_cvms(world: World, device: Device) -> None:
    sessions_end(world)
    at_first = sessions(world)
    process = start(device, "rewrite", "i cant come on monday, can we do tuesday")
    assert soon(lambda: bool(sessions(world) - at_first))
    time.sleep(0.5)
    process.kill()
    process.communicate()
    began = time.monotonic()
    sessions_end(world)
    assert time.monotonic() - began < LIMITS.session_idle


def test_a_cvm_that_dies_in_the_middle_of_an_answer(world: World, device: Device) -> None:
    process = start(device, "rewrite", "i cant come on monday, can we do tuesday", "--verbose")
    assert process.stdout is not None
    for line in process.stdout:
        if "verification" in line:
            break
    machine = {world.pids["predictor-1"]}
    for pid in sessions(world) & family(machine):
        os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 28, said
    assert said.startswith("sottovoce: a part of the service is down [service")
    assert ReportStore(device.home).list()[-1].outcome.startswith("service")
    # Those that waited for the next sessions were killed as well, and are made anew.
    assert soon(lambda: device.run("rewrite", "i cant come").returncode == 0)


@pytest.fixture
def person(tmp_path: Path) -> Device:
    small_model()
    (tmp_path / "tmp").mkdir()
    return Device(tmp_path / "home", {"TMPDIR": str(tmp_path / "tmp")})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_at_any_moment(
    person: Device, tmp_path: Path, number: signal.Signals
) -> None:
    for wait in (0.3, 1.5, 4.0, 7.0):
        process = started(person, "demo", "--small")
        time.sleep(wait)
        _, said = end(process, number)
        assert process.returncode in {*STOPPED, -number}, said
        assert "Traceback" not in said
        assert list((tmp_path / "tmp").iterdir()) == []
        # A party that was just being started ends with its parent, a moment later.
        assert soon(lambda: mentioning(tmp_path) == [], 60)


def test_a_demo_that_is_killed_takes_its_parties_with_it(person: Device, tmp_path: Path) -> None:
    process = start(person, "demo", "--small")
    assert soon(lambda: len(mentioning(tmp_path)) > 5)
    time.sleep(2)
    process.kill()
    process.communicate()
    assert soon(lambda: mentioning(tmp_path) == [], 60)


def test_up_stops_whole_and_goes_on_later(person: Device, tmp_path: Path) -> None:
    pinned = set()
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(person, "up", "--small")
        assert process.stdout is not None
        for line in process.stdout:
            if "Ctrl-C stops everything" in line:
                break
        pinned.add((person.home / "environment.json").read_bytes())
        assert person.run("wallet", "refill", "--now").returncode == 0
        _, said = end(process, number)
        assert process.returncode == INTERRUPTED, said
        assert said.strip() == "Interrupted. Nothing is left running."
        assert mentioning(tmp_path) == []
    assert len(pinned) == 1
    assert person.ready() >= 48
