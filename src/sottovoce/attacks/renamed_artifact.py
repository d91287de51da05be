"""Artifacts with the right contents in the wrong place: files renamed, another name, another purpose (row 19).

The host supplies a CVM's artifacts. A digest over contents alone would let it give the headline's prompt to the rewriting, or start one
model in the place of another. What refuses is the CVM's own check when it starts, run here as the CVM runs it; and where the host puts the
digest of what it has renamed into the settings, the settings are others than those that were published.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sottovoce.attacks.attack import HOST, Attack, Result, refusal
from sottovoce.simulator.configs import Change
from sottovoce.simulator.measure import code_root
from sottovoce.tee import boot
from sottovoce.tee.features import prompts
from sottovoce.tee.settings import Model, Settings, parse_settings

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab
    from sottovoce.simulator.world import World

__all__ = ["ATTACK", "SWAPPED", "starts", "tries"]

_CODE: Final = "config.artifact"
_FILE: Final = Path("sottovoce", "tee", "features", "prompts.py")
_RIGHT: Final = '{"headline": headline.PROMPT, "rewrite": rewrite.PROMPT}'
_WRONG: Final = '{"rewrite": headline.PROMPT, "headline": rewrite.PROMPT}'
SWAPPED: Final = {"rewrite": prompts.PROMPTS["headline"], "headline": prompts.PROMPTS["rewrite"]}
"""Two files renamed, one for the other: the same names, and the same contents."""


def starts(settings: Settings, path: Path, name: str) -> Callable[[], object]:
    """The check of a CVM that is given the file at `path` as the artifact `name`."""

    def check() -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            boot.check_artifacts(settings, {name: descriptor})
        finally:
            os.close(descriptor)

    return check


def _with(settings: Settings, **changes: str) -> Settings:
    model = settings.model or Model(name="none", digest="0" * 64, bytes=1, purpose="none")
    return msgspec.structs.replace(settings, model=msgspec.structs.replace(model, **changes))


def tries(settings: Settings, path: Path) -> Mapping[str, Callable[[], object]]:
    """What the host supplies to a CVM with the published `settings` of a predictor, whose weights are at `path`."""
    name = settings.model.name if settings.model else ""
    return {
        "two files of the prompts renamed, one for the other": lambda: prompts.check_prompts(
            settings.prompts, SWAPPED
        ),
        "the weights under another name": starts(_with(settings, name="guard"), path, "guard"),
        "the weights for another purpose": starts(_with(settings, purpose="guarding"), path, name),
    }


@contextmanager
def _renamed(world: "World") -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="sottovoce-attack-") as folder:
        code = Path(folder)
        shutil.copytree(
            code_root() / "sottovoce", code / "sottovoce", ignore=shutil.ignore_patterns("__pycache__")
        )
        text = (code / _FILE).read_text()
        (code / _FILE).write_text(text.replace(_RIGHT, _WRONG))
        digest = prompts.prompts_digest(SWAPPED)
        change = Change(
            code=code, settings=lambda settings: msgspec.structs.replace(settings, prompts=digest)
        )
        world.restart("predictor-1", change)
        for name in world.orchestrators:
            world.restart(name, wait=False)
        yield


def _live(lab: "Lab") -> Iterator[Result]:
    world = lab.world
    settings = parse_settings((world.folder / "settings" / "predictor-1.json").read_bytes())
    for tried, check in tries(settings, world.model.path).items():
        yield Result(tries=tried, wanted=frozenset({_CODE}), outcome=refusal(check))
    with ExitStack() as stack:
        machines = ("predictor-1", *world.orchestrators)
        outcome = lab.change(machines, lambda: stack.enter_context(_renamed(world)))
    yield Result(
        tries="the prompts renamed, with their new digest in the settings so that the predictor starts",
        wanted=frozenset({"backend-predictor"}),
        outcome=outcome,
    )


ATTACK: Final = Attack(
    name="renamed-artifact",
    row="19",
    who=HOST,
    tries="the right contents under another name, for another purpose, or with two files renamed",
    stopped_by=(_CODE, "backend-predictor"),
    live=_live,
)
