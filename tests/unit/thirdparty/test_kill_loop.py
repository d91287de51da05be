"""A few rounds of scripts/kill_log.py; by hand it runs hundreds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts/kill_log.py"


def kill(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=110
    )


def test_nothing_is_lost_or_signed_twice_by_a_log_that_is_killed() -> None:
    done = kill("--kills", "25")
    assert done.returncode == 0, done.stdout
    told, size = re.search(r"log: (\d+); acknowledged: (\d+); lost: 0", done.stdout).groups()[::-1]  # type: ignore[union-attr]
    assert 0 < int(told) <= int(size)
    assert re.search(r"kills: (?!0 )\d+", done.stdout)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("record", "log.example/killed has signed two tree heads"),
        ("acknowledge", "an acknowledged entry is lost"),
    ],
)
def test_the_loop_sees_a_log_that_does_it_wrong(broken: str, words: str) -> None:
    done = kill("--kills", "60", "--break", broken)
    assert (done.returncode, done.stdout.startswith(f"BROKEN: {words}")) == (1, True), done.stdout
