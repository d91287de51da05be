"""Each fuzz target runs for a moment, with a fixed seed; `make fuzz` runs longer, and docs/fuzzing.md says for how long."""

import importlib.util
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MUTATIONS = 300


@pytest.fixture(scope="module")
def targets() -> Iterator[Any]:
    """The table of targets; the repository's root is not on the path of tests."""
    sys.path.insert(0, str(ROOT))
    from fuzz.targets import TARGETS  # noqa: PLC0415 - as it stands beside the package

    yield TARGETS
    sys.path.remove(str(ROOT))


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Flip, cut, repeat, insert: one to four of these."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed) + 1)
        match draw.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << draw.randrange(8)
            case 1:
                del changed[at : at + draw.randint(1, 40)]
            case 2:
                changed[at:at] = changed[at : at + draw.randint(1, 40)]
            case 3:
                changed[at:at] = draw.randbytes(draw.randint(1, 9))
            case _:
                del changed[at:]
    return bytes(changed)


def test_targets_hold_on_mutated_seeds(targets: Any) -> None:
    draw = random.Random(1)  # noqa: S311 - the same each time
    for target in targets.values():
        for seed in target.seeds():
            target(seed)
            for _ in range(MUTATIONS):
                target(mutated(seed, draw))


def test_targets_begin_with_something_that_is_accepted(targets: Any) -> None:
    """A target whose seeds are all refused explores little: these three begin at documents of another kind."""
    explores_nothing = {
        name for name, target in targets.items() if not any(_accepts(target, seed) for seed in target.seeds())
    }
    assert explores_nothing <= {"token-key", "exported-reports", "cvm-settings"}


def _accepts(target: Any, seed: bytes) -> bool:
    try:
        target.parse(seed)
    except target.errors:
        return False
    return True


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not here")
def test_the_runner() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "fuzz", "--runs", "2000", "--seed", "1", "snp-report", "note"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("2,000 executions") == 2
    wrong = subprocess.run(
        [sys.executable, "-m", "fuzz", "nothing"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2


def test_the_documents_table_is_current(targets: Any) -> None:
    table = subprocess.run(
        [sys.executable, "-m", "fuzz", "--table"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(f"| `{name}` |" in table for name in targets)
    assert (ROOT / "docs" / "fuzzing.md").read_text().endswith(table)
