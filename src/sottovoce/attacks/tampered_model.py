"""The operator gives the predictor another model: one byte of the file, and the settings' digest to go with it (row 23)."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sottovoce.attacks.attack import HOST, Attack, Result
from sottovoce.simulator.configs import PURPOSE, Change
from sottovoce.simulator.models import describe

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab
    from sottovoce.simulator.world import World
    from sottovoce.tee.settings import Settings

__all__ = ["ATTACK", "CHECKS", "TRIES", "attack"]

TRIES: Final = (
    "The operator changes one byte of the model, puts the new digest in the predictor's settings so that it starts, and leaves "
    "the orchestrators as they were published."
)
CHECKS: Final = frozenset({"backend-predictor"})


@contextmanager
def attack(world: "World") -> Iterator[Callable[[], str]]:
    """Restart the predictor with the changed model, then the orchestrators, which look for a predictor."""
    with tempfile.TemporaryDirectory(prefix="sottovoce-attack-") as folder:
        path = Path(shutil.copy(world.model.path, folder))
        with path.open("r+b") as file:
            file.seek(-1, 2)
            last = file.read(1)
            file.seek(-1, 2)
            file.write(bytes([last[0] ^ 1]))
        changed = describe(path)
        digest = replace(changed, name=world.model.name).digest(PURPOSE)
        world.restart("predictor-1", Change(settings=lambda settings: _with(settings, digest), model=path))
        for name in world.orchestrators:
            world.restart(name, wait=False)
        yield lambda: "ran a model of its own; no orchestrator worked with it, no session was accepted"


def _with(settings: "Settings", digest: str) -> "Settings":
    model = msgspec.structs.replace(settings.model, digest=digest) if settings.model else None
    return msgspec.structs.replace(settings, model=model)


def _live(lab: "Lab") -> Iterator[Result]:
    with ExitStack() as stack:
        outcome = lab.change(
            ("predictor-1", *lab.world.orchestrators), lambda: stack.enter_context(attack(lab.world))
        )
    yield Result(tries="the predictor started so", wanted=frozenset({"backend-predictor"}), outcome=outcome)


ATTACK: Final = Attack(
    name="tampered-model",
    row="23",
    who=HOST,
    tries="one byte of the model changed, with the new digest in the predictor's settings",
    stopped_by=("backend-predictor",),
    live=_live,
)
