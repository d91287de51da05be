"""The attack lab: one attack a file, named after what it tries, against a running world.

Each module has `ATTACK`, which `sottovoce attack` runs. Four can be watched with `sottovoce demo --attack` too; these have
`TRIES`, what the attacker does; `CHECKS`, the checks of which at least one must refuse; and `attack(world)`, a context manager
that does it, and yields a function that says what the attacker got.
"""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    from sottovoce.attacks.attack import Attack
    from sottovoce.simulator.world import World

__all__ = ["ATTACKS", "NAMES", "Demonstration", "find", "load"]

ATTACKS: Final = ("replay", "tampered-code", "tampered-settings", "tampered-model")
"""Names of the attacks, as `sottovoce demo --attack` takes them."""

NAMES: Final = (
    "own-token-key",
    "false-issuer",
    "own-ohttp-key",
    "linked-issuance",
    "telltale-traces",
    "replay",
    "concurrent-session",
    "inflated-patch-level",
    "old-certificate",
    "weak-guest-policy",
    "weak-platform",
    "flipped-after-signing",
    "unlisted-chip",
    "masked-chip-id",
    "shared-chip-key",
    "tampered-settings",
    "injected-environment",
    "host-files",
    "pickled-weights",
    "watching-observer",
    "changed-tables",
    "tampered-code",
    "altered-image",
    "renamed-artifact",
    "other-log",
    "guard-as-orchestrator",
    "expired-release",
    "stale-checkpoint",
    "old-version",
    "extra-device",
    "tampered-model",
    "flipped-weights",
    "other-command-line",
    "forked-log",
    "rolled-back-log",
    "missing-accelerator",
    "undeclared-accelerator",
    "forged-accelerator",
    "diverted-evidence",
    "swapped-machine",
    "malleable-certificate",
    "stale-beside-fresh",
    "oversized-evidence",
    "truncated-answer",
    "replayed-request",
    "double-spending",
    "steered-choice",
    "prefix-cache",
    "moved-clock",
    "hostile-messages",
)
"""Names of all attacks, in the order of the threat list."""


class Demonstration(Protocol):
    """What a module of `ATTACKS` is."""

    TRIES: str
    CHECKS: frozenset[str]

    def attack(self, world: "World") -> AbstractContextManager[Callable[[], str]]:
        """Attack `world`; the function that comes says what the attacker got."""


def load(name: str) -> Demonstration:
    """The demonstration called `name`, one of `ATTACKS`."""
    return cast("Demonstration", _module(name))


def find(name: str) -> "Attack":
    """The attack called `name`, one of `NAMES`."""
    return cast("Attack", _module(name).ATTACK)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"sottovoce.attacks.{name.replace('-', '_')}")
