"""The lab against a running world: every attack is stopped, and one of them succeeds against a device without the check."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Device, small_model
from sottovoce.attacks import NAMES, find
from sottovoce.attacks.lab import CONTROL, Lab
from sottovoce.attacks.workshop import Workshop
from sottovoce.attest.verdict import Checklist, Status
from sottovoce.cli.model import default_folder
from sottovoce.device import directory
from sottovoce.simulator.world import World
from sottovoce.tlog.entries import Directory
from sottovoce.tlog.history import History
from sottovoce.tlog.policy import LogPolicy, VerifiedCheckpoint
from sottovoce.tlog.proof import LoggedEntry, Proof

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
RUN = [name for name in NAMES if find(name).runs]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    world = World(folder / "world", model=small_model())
    world.start()
    try:
        # Nothing is fetched here: where the image's packages are not, attacks say what they have not done.
        workshop = Workshop.here(default_folder().parent / "packages", ask=False)
        with Lab(world, folder, now=time.time(), workshop=workshop) as lab:
            lab.prepare(find(name) for name in NAMES)
            yield lab
    finally:
        world.stop()


def test_the_control_is_believed(lab: Lab) -> None:
    outcome = lab.show(CONTROL)
    assert outcome.read > 0


def test_a_genuine_session_through_the_attackers_hands_is_served(lab: Lab) -> None:
    with lab.passing():
        assert lab.ask() == frozenset()


@pytest.mark.parametrize("name", RUN)
def test_it_is_stopped_for_the_reason_named(lab: Lab, name: str) -> None:
    results = list(find(name).run(lab))
    tried = [result for result in results if not result.not_run]
    assert tried
    assert [result.to_json() for result in tried if not result.is_stopped] == []
    left = {result.not_run for result in results if result.not_run}
    assert all("--boot" in why or why.startswith(lab.workshop.missing or "-") for why in left)


@pytest.mark.parametrize(
    "name", ["diverted-evidence", "steered-choice", "expired-release", "swapped-machine"]
)
def test_a_device_without_the_check_sends_its_words(
    lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = Checklist._put
    trial = find(name).trials[0]

    def put(self: Checklist, check: str, status: Status, found: str, wanted: str) -> None:
        genuine(self, check, Status.PASS if check in trial.stopped_by else status, found, wanted)

    monkeypatch.setattr(Checklist, "_put", put)
    outcome = lab.show(trial)
    assert outcome.read > 0
    assert not outcome.stopped_by & trial.stopped_by


def test_the_world_is_right_afterwards(lab: Lab) -> None:
    assert lab.world.dead() == []
    with lab.passing():
        assert lab.ask() == frozenset()


def test_the_command(tmp_path: Path) -> None:
    small_model()
    (tmp_path / "tmp").mkdir()
    person = Device(tmp_path / "home", {"TMPDIR": str(tmp_path / "tmp")})
    done = person.run("attack", "replay", "moved-clock", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["good"] is True
    assert [(row["attack"], row["outcome"]) for row in document["attacks"]] == [
        ("replay", "stopped"),
        ("moved-clock", "not run here"),
    ]
    assert "Control:" in done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "home").exists()


def test_a_device_that_forgets_what_it_saw_goes_on_from_a_log_that_was_rolled_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int]] = []

    def linked(
        _: Directory, checkpoint: VerifiedCheckpoint, last: directory.LastSeen, history: History | None
    ) -> None:
        # All that is left of the rule: one log, and a proof of that.
        directory._linked(last.checkpoint, checkpoint, history, "this device has seen and is shown")
        taken.append((last.checkpoint.size, checkpoint.size))

    monkeypatch.setattr(directory, "_continues", linked)
    *_, result = find("rolled-back-log").run(lab)
    assert result.outcome.stopped_by == frozenset()
    assert not result.is_stopped
    ((before, after),) = {sizes for sizes in taken if sizes[0] != sizes[1]}
    assert after == before - 1


@pytest.mark.parametrize("name", ["own-token-key", "own-ohttp-key"])
def test_a_device_that_compares_and_proves_nothing_takes_a_directory_of_its_own(
    lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, taken = directory.accept, []

    def believe(first: bytes, _: bytes, proof: bytes, **rest: Any) -> directory.VerifiedDirectory:
        accepted = genuine(first, first, proof, **rest)
        taken.append(first)
        return accepted

    def prove(proof: bytes, _: bytes, log: LogPolicy, *, now: int | None) -> LoggedEntry:
        checkpoint = log.verify_checkpoint(Proof.parse(proof).note, now=now)
        return LoggedEntry(entry=b"", index=0, checkpoint=checkpoint)

    monkeypatch.setattr("sottovoce.device.directory_fetch.accept", believe)
    monkeypatch.setattr(directory, "verify_proof", prove)
    results = list(find(name).run(lab))
    # The genuine one first, then the one of its own by either way.
    assert len(set(taken)) == 2
    assert all("directory.refused" not in result.outcome.stopped_by for result in results)
