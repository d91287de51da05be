"""The attack lab: one attack a file, named after what it tries, against a running world.

Each module has `TRIES`, what the attacker does; `CHECKS`, the checks of which at least one must refuse; and `attack(world)`, a
context manager that does it, and yields a function that says what the attacker got.
"""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    from sottovoce.simulator.world import World

__all__ = ["ATTACKS", "Attack", "load"]

ATTACKS: Final = ("replay", "tampered-code", "tampered-settings", "tampered-model")
"""Names of the attacks, as `sottovoce demo --attack` takes them."""


class Attack(Protocol):
    """What a module of this package is."""

    TRIES: str
    CHECKS: frozenset[str]

    def attack(self, world: "World") -> AbstractContextManager[Callable[[], str]]:
        """Attack `world`; the function that comes says what the attacker got."""


def load(name: str) -> Attack:
    """The attack called `name`, one of `ATTACKS`."""
    return cast("Attack", importlib.import_module(f"sottovoce.attacks.{name.replace('-', '_')}"))
