"""The demonstration, as a newcomer runs it, with the small model."""

from pathlib import Path

import pytest

from e2e.conftest import Device, small_model
from sottovoce.attest.rules import session_rules
from sottovoce.attest.simulated import SIMULATED_KIND
from sottovoce.simulator.world import PARTIES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.fixture
def person(tmp_path: Path) -> Device:
    small_model()
    (tmp_path / "tmp").mkdir()
    return Device(tmp_path / "home", {"TMPDIR": str(tmp_path / "tmp")})


def test_the_demo_does_the_main_job_and_leaves_nothing(person: Device, tmp_path: Path) -> None:
    done = person.run("demo", "--small")
    assert done.returncode == 0, done.stderr
    for party in PARTIES:
        assert party in done.stdout
    for title in (rule.title for rule in session_rules(SIMULATED_KIND).values()):
        assert title in done.stdout
    for word in ("SIMULATED HARDWARE", "first line", "could not see", "sottovoce demo --attack replay"):
        assert word in done.stdout
    assert done.stdout.count("• ") >= 3
    assert "  1. " in done.stdout
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "home").exists()


def test_the_command_that_it_prints_shows_a_refusal(person: Device, tmp_path: Path) -> None:
    done = person.run("demo", "--small", "--attack", "replay")
    assert done.returncode == 0, done.stderr
    assert "Refused: check 6.7 failed" in done.stdout
    assert "read 0 bytes of yours" in done.stdout
    assert list((tmp_path / "tmp").iterdir()) == []
