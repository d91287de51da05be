"""The operator starts CVMs with the published code and other settings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from sottovoce.simulator.world import Change

if TYPE_CHECKING:
    from sottovoce.simulator.world import World
    from sottovoce.tee.settings import Settings

__all__ = ["CHECKS", "TRIES", "attack"]

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
