"""File names, paths and links from the host (row 14).

A CVM gets no files: each artifact is an open descriptor, under a name that the measured settings know already. So the host tries names that lead elsewhere, in what it gives and in the
settings; descriptors of something that is no file; more of them, or fewer; and where the back ends are.
"""

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sottovoce.attacks.attack import HOST, Attack, Result
from sottovoce.attacks.host import Attempt, Given, Host, settings_of
from sottovoce.core import canonical

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK", "descriptors", "names", "wirings"]

_ARTIFACT: Final = "config.artifact"
_OTHERS: Final = "the artifacts are not those of the settings"
_UNREADABLE: Final = "an artifact cannot be read as it was published"
_NOT_IT: Final = "an artifact is not the one in the settings"
_GRAMMAR: Final = "a value outside its grammar"
_ADDRESS: Final = "an address outside its grammar"
_BACK_ENDS: Final = "exactly this role's back ends"
_PATHS: Final = {
    "a path upwards": "../../etc/passwd",
    "a whole path": "/etc/passwd",
    "a path below": "models/model",
    "a name with a newline": "model\nLD_PRELOAD",
    "a hidden name": ".model",
    "an empty name": "",
    "a name of another alphabet": "mоdel",  # noqa: RUF001 - that is the attack
}
_PLACES: Final = {
    "a name that a resolver would be asked for": "host.example:80",
    "a path": "/run/host.sock",
    "a path with a scheme": "unix:/run/host.sock",
    "a newline": "127.0.0.1:80\n",
    "a second address": "127.0.0.1:80,10.0.0.1:80",
    "a user": "root@127.0.0.1:80",
    "a descriptor's path": "/proc/self/fd/0:80",
}


def names(settings: bytes, weights: int) -> Mapping[str, Attempt]:
    """For a predictor with these settings: other names for its weights, which the descriptor `weights` has."""
    value: dict[str, Any] = json.loads(settings)
    right = value["model"]["name"]

    def given(*artifacts: tuple[str, int], document: bytes = settings) -> Given:
        return Given(settings=document, artifacts=artifacts)

    def named(name: str) -> bytes:
        return canonical.encode(value | {"model": value["model"] | {"name": name}})

    attempts = {
        f"the weights' name: {tries}": Attempt(given((name, weights)), _ARTIFACT, _OTHERS)
        for tries, name in _PATHS.items()
    }
    attempts |= {
        f"the settings' name: {tries}": Attempt(given((name, weights), document=named(name)), reason=_GRAMMAR)
        for tries, name in _PATHS.items()
    }
    return attempts | {
        "no weights": Attempt(given(), _ARTIFACT, _OTHERS),
        "one file more": Attempt(given((right, weights), ("more", weights)), _ARTIFACT, _OTHERS),
        "the same name twice": Attempt(
            given((right, weights), (right, weights)), "boot", "an artifact is given twice"
        ),
    }


def descriptors(settings: bytes, folder: Path, stack: ExitStack) -> Mapping[str, Attempt]:
    """Under the right name, what is no file; in `folder`, open until `stack` closes."""
    right = json.loads(settings)["model"]["name"]
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    one, other = (stack.enter_context(end) for end in socket.socketpair())
    other.sendall(b"GGUF")
    paths = {
        "a link": (folder / "link", os.O_PATH | os.O_NOFOLLOW, _UNREADABLE),
        "a folder": (folder, os.O_RDONLY | os.O_DIRECTORY, _UNREADABLE),
        "a pipe": (folder / "pipe", os.O_RDONLY | os.O_NONBLOCK, _UNREADABLE),
        "a device": (Path(os.devnull), os.O_RDONLY, _NOT_IT),
        "a file of the host's": (Path("/etc/passwd"), os.O_RDONLY, _NOT_IT),
    }
    attempts = {}
    for tries, (path, flags, reason) in paths.items():
        fd = os.open(path, flags | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        attempts[tries] = Attempt(Given(settings=settings, artifacts=((right, fd),)), _ARTIFACT, reason)
    socketed = Given(settings=settings, artifacts=((right, one.fileno()),))
    return attempts | {"a socket": Attempt(socketed, _ARTIFACT, _UNREADABLE)}


def wirings(settings: bytes) -> Mapping[str, Attempt]:
    """For an orchestrator with these settings: what stands where its back ends' addresses do."""
    good = "127.0.0.1:80"

    def attempt(reason: str, **places: str) -> Attempt:
        return Attempt(Given(settings=settings, wiring=canonical.encode(places)), reason=reason)

    return {
        **{
            f"a back end's address: {tries}": attempt(_ADDRESS, predictor=place, guard=good)
            for tries, place in _PLACES.items()
        },
        "a back end of no role": attempt(_BACK_ENDS, predictor=good, guard=good, LD_PRELOAD=good),
        "a back end less": attempt(_BACK_ENDS, predictor=good),
    }


def _live(lab: "Lab") -> Iterator[Result]:
    world = lab.world
    predictor, orchestrator = (Host.of(world, name) for name in ("predictor-1", "orchestrator-1"))
    settings = settings_of(world, "predictor-1")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sottovoce-attack-")))
        weights = os.open(world.model.path, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, weights)
        yield from predictor.each(names(settings, weights))
        yield from predictor.each(descriptors(settings, folder, stack))
    yield from orchestrator.each(wirings(settings_of(world, "orchestrator-1")))


ATTACK: Final = Attack(
    name="host-files",
    row="14",
    who=HOST,
    tries="paths, links and newlines where a name stands; what is no file where a file stands; paths where a back end's address stands",
    stopped_by=("config", _ARTIFACT, "boot"),
    live=_live,
)
