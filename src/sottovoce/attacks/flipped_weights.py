"""One byte of the weights is another one, and the settings are those that were published (row 23).

The audited system noticed, and went on. Here the CVM does not start, so that orchestrators find no predictor, and a device gets no session.
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import HOST, Attack, Outcome, Result
from sottovoce.attacks.host import Given, Host, settings_of
from sottovoce.simulator.configs import Change
from sottovoce.tee.settings import parse_settings

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab
    from sottovoce.simulator.world import World

__all__ = ["ATTACK", "CHANGES", "flipped", "starts"]

_CODE: Final = "config.artifact"
_REASON: Final = "an artifact is not the one in the settings"
_CLOSED: Final = "closed-port"


def _byte(at: int, whence: int = os.SEEK_SET) -> Callable[[int], object]:
    def change(fd: int) -> None:
        place = os.lseek(fd, at, whence)
        (old,) = os.pread(fd, 1, place)
        os.pwrite(fd, bytes([old ^ 1]), place)

    return change


def _middle(fd: int) -> None:
    _byte(os.fstat(fd).st_size // 2)(fd)


CHANGES: Final[Mapping[str, Callable[[int], object]]] = {
    "the first byte": _byte(0),
    "a byte of its head": _byte(100),
    "a byte in the middle": _middle,
    "the last byte": _byte(-1, os.SEEK_END),
    "a byte more": lambda fd: os.ftruncate(fd, os.fstat(fd).st_size + 1),
    "a byte less": lambda fd: os.ftruncate(fd, os.fstat(fd).st_size - 1),
}


def flipped(weights: Path, folder: Path, change: Callable[[int], object]) -> Path:
    """A copy of the weights in `folder`, changed so."""
    path = Path(shutil.copyfile(weights, folder / weights.name))
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        change(fd)
    finally:
        os.close(fd)
    return path


def starts(host: Host, settings: bytes, path: Path) -> Outcome:
    """What a predictor with the published settings says to the file at `path`."""
    model = parse_settings(settings).model
    with path.open("rb") as file:
        return host.start(Given(settings=settings, artifacts=((model.name if model else "", file.fileno()),)))


def _restart(world: "World", path: Path) -> None:
    world.restart("predictor-1", Change(model=path), wait=False)
    for name in world.orchestrators:
        world.restart(name, wait=False)


def _port(world: "World") -> Outcome:
    """Whether somebody serves where the predictor should."""
    try:
        socket.create_connection(("127.0.0.1", world.port("predictor-1"))).close()
    except OSError:
        return Outcome(stopped_by=frozenset({_CLOSED}))
    return Outcome(stopped_by=frozenset())


def _live(lab: "Lab") -> Iterator[Result]:
    world = lab.world
    host, settings = Host.of(world, "predictor-1"), settings_of(world, "predictor-1")
    with tempfile.TemporaryDirectory(prefix="sottovoce-attack-") as name:
        for tries, change in CHANGES.items():
            outcome = starts(host, settings, flipped(world.model.path, Path(name), change))
            yield Result(tries=tries, wanted=frozenset({_CODE}), reason=_REASON, outcome=outcome)
        path = flipped(world.model.path, Path(name), _middle)
        machines = ("predictor-1", *world.orchestrators)
        try:
            _restart(world, path)
            with lab.passing():
                asked = Outcome(stopped_by=lab.ask())
            port = _port(world)
        finally:
            lab.restore(machines)
    yield Result(
        tries="a byte in the middle, in the world's own predictor; a device asks",
        wanted=frozenset({"backend-predictor"}),
        outcome=asked,
    )
    yield Result(tries="its port, meanwhile", wanted=frozenset({_CLOSED}), outcome=port)


ATTACK: Final = Attack(
    name="flipped-weights",
    row="23",
    who=HOST,
    tries="one byte of the weights changed, with the settings as they were published",
    stopped_by=(_CODE, "backend-predictor", _CLOSED),
    live=_live,
)
