"""The operator starts CVMs with the published code and other settings (row 13)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from sottovoce.attacks.attack import HOST, Attack, Result
from sottovoce.simulator.world import Change

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab
    from sottovoce.simulator.world import World
    from sottovoce.tee.settings import Settings

__all__ = ["ATTACK", "CHECKS", "TRIES", "attack"]

TRIES: Final = (
    "The operator changes one digit of the orchestrator's settings (one witness instead of two must vouch for its back ends), and "
    "starts the published code with them."
)
CHECKS: Final = frozenset({"measurement"})


def _weaken(settings: "Settings") -> "Settings":
    return msgspec.structs.replace(settings, quorum=1)


@contextmanager
def attack(world: "World") -> Iterator[Callable[[], str]]:
    """Restart both orchestrators with changed settings."""
    for name in world.orchestrators:
        world.restart(name, Change(settings=_weaken), wait=False)
    yield lambda: "ran the published code with settings of its own; no session was accepted"


def _live(lab: "Lab") -> Iterator[Result]:
    with ExitStack() as stack:
        outcome = lab.change(lab.world.orchestrators, lambda: stack.enter_context(attack(lab.world)))
    yield Result(
        tries="both orchestrators started so",
        wanted=frozenset({"measurement", "backend-predictor", "backend-guard"}),
        outcome=outcome,
    )


ATTACK: Final = Attack(
    name="tampered-settings",
    row="13",
    who=HOST,
    tries="the published code with other settings: one witness instead of two vouches for the back ends",
    stopped_by=("measurement",),
    live=_live,
)
