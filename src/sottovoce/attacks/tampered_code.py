"""The operator starts CVMs whose code differs by one byte from what was published (row 18)."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import HOST, Attack, Result
from sottovoce.simulator.measure import code_root
from sottovoce.simulator.world import Change

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab
    from sottovoce.simulator.world import World

__all__ = ["ATTACK", "CHECKS", "TRIES", "attack"]

TRIES: Final = (
    "The operator adds one byte to a file of the orchestrator's code, and starts that on genuine hardware."
)
CHECKS: Final = frozenset({"measurement"})
_FILE: Final = Path("sottovoce", "tee", "orchestrator.py")


@contextmanager
def attack(world: "World") -> Iterator[Callable[[], str]]:
    """Restart both orchestrators with changed code."""
    with tempfile.TemporaryDirectory(prefix="sottovoce-attack-") as folder:
        code = Path(folder)
        shutil.copytree(
            code_root() / "sottovoce", code / "sottovoce", ignore=shutil.ignore_patterns("__pycache__")
        )
        with (code / _FILE).open("ab") as file:
            file.write(b"\n")
        for name in world.orchestrators:
            world.restart(name, Change(code=code), wait=False)
        yield lambda: "ran code of its own on a listed machine; no session was accepted"


def _live(lab: "Lab") -> Iterator[Result]:
    with ExitStack() as stack:
        outcome = lab.change(lab.world.orchestrators, lambda: stack.enter_context(attack(lab.world)))
    yield Result(
        tries="both orchestrators started so",
        wanted=frozenset({"measurement", "backend-predictor", "backend-guard"}),
        outcome=outcome,
    )


ATTACK: Final = Attack(
    name="tampered-code",
    row="18",
    who=HOST,
    tries="one byte added to the orchestrator's code, started on genuine hardware",
    stopped_by=("measurement",),
    live=_live,
)
