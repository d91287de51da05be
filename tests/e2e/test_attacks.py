"""The attack lab against a running world: each must be refused by the check that is meant for it, with nothing sent."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from e2e.conftest import CHATS, Device
from sottovoce import attacks
from sottovoce.attest.verdict import VerificationRefused
from sottovoce.device.chats import read_chat
from sottovoce.device.client import Client, ClientEvent
from sottovoce.device.reports import ReportStore
from sottovoce.simulator.world import MACHINES, Change, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def ask(device: Device) -> list[ClientEvent]:
    async def run() -> list[ClientEvent]:
        async with Client(device.home) as client:
            chat = read_chat(CHATS / "book-club.txt")
            async with aclosing(client.summarize(chat, count=10)) as events:
                return [event async for event in events]

    return asyncio.run(run())


@pytest.fixture
def shaken(world: World) -> Iterator[World]:
    """The world, put right after the test: every machine as it was published."""
    yield world
    for name in sorted(MACHINES, key=lambda name: MACHINES[name] == "orchestrator"):
        world.restart(name)


def refusal(device: Device) -> VerificationRefused:
    """What the device says; nothing was sent, and its report says so."""
    with pytest.raises(VerificationRefused) as refused:
        ask(device)
    report = ReportStore(device.home).list()[-1]
    assert report.outcome == "verification"
    assert (report.size_class, report.message_count, report.messages) == (0, 0, ())
    assert "fail" in {line.status for line in report.verdict}
    return refused.value


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_the_attack_is_refused(shaken: World, device: Device, name: str) -> None:
    ask(device)
    attempt = attacks.load(name)
    with attempt.attack(shaken) as got:
        refused = refusal(device)
        assert {check.id for check in refused.verdict.failed} & attempt.CHECKS
        assert "read 0 bytes" in got() or "no session was accepted" in got()


def test_a_model_file_that_differs_by_one_byte_starts_no_predictor(
    shaken: World, device: Device, tmp_path: Path
) -> None:
    path = Path(shutil.copy(shaken.model.path, tmp_path))
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff")
    shaken.restart("predictor-1", Change(model=path), wait=False)
    for name in shaken.orchestrators:
        shaken.restart(name, wait=False)
    assert "backend-predictor" in {check.id for check in refusal(device).verdict.failed}
    assert (
        "an artifact is not the one in the settings"
        in (shaken.folder / "logs" / "predictor-1.log").read_text()
    )


def test_the_world_is_right_again(world: World, device: Device) -> None:
    assert world.dead() == []
    assert ask(device)
