"""Weights in a format that runs code when it is loaded, under a model's name (row 15).

Each file would leave a mark if anything read it as what it is. It is offered to the operator, who describes it for a release, and to a CVM, with settings that name its digest truthfully.
"""

import hashlib
import io
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sottovoce.attacks.attack import HOST, Attack, Outcome, Result, refusal
from sottovoce.attacks.host import Given, Host, settings_of
from sottovoce.simulator.configs import PURPOSE, encode_settings
from sottovoce.simulator.models import describe
from sottovoce.tee.settings import Model, parse_settings
from sottovoce.tlog.artifacts import artifact_digest

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK", "FILES", "described", "start", "truthful"]

_FILE: Final = "model.gguf"
_RUNS, _OTHER, _UNLOADED = "can run code when it is loaded", "not a GGUF file", "the model cannot be loaded"


class _Marks:
    """Makes a folder at `path` when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._path),)


def _pickle(mark: Path) -> bytes:
    return pickle.dumps(_Marks(mark))


def _zip(mark: Path) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", _pickle(mark))
    return made.getvalue()


def _array(mark: Path) -> bytes:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + _pickle(mark)


FILES: Final[Mapping[str, tuple[Callable[[Path], bytes], str]]] = {
    "a pickle": (_pickle, _RUNS),
    "a pickle in its oldest form": (lambda mark: pickle.dumps(_Marks(mark), 0), _OTHER),
    "an archive with a pickle, as torch writes it": (_zip, _RUNS),
    "an array of objects, as numpy writes it": (_array, _RUNS),
    "a pickle behind the beginning of a GGUF file": (lambda mark: b"GGUF\x03\0\0\0" + _pickle(mark), ""),
}
"""What is tried → the file that leaves a mark, and why nobody describes it; one begins as it should, and only the engine knows."""


def described(content: bytes, folder: Path) -> Outcome:
    """What an operator is told who describes this as a model."""
    path = folder / _FILE
    path.write_bytes(content)
    return refusal(lambda: describe(path))


def truthful(settings: bytes, path: Path) -> bytes:
    """A predictor's settings that name the file at `path`."""
    value = parse_settings(settings)
    name, content = value.model.name if value.model else "model", path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    digest = artifact_digest(name=name, purpose=PURPOSE, sha256=sha256, size=len(content))
    model = Model(name=name, digest=digest, bytes=len(content), purpose=PURPOSE)
    return encode_settings(msgspec.structs.replace(value, model=model))


def start(host: Host, settings: bytes, path: Path) -> Outcome:
    """A predictor, started with the file at `path` and settings that name it."""
    document = truthful(settings, path)
    model = parse_settings(document).model
    with path.open("rb") as file:
        artifacts = ((model.name if model else "", file.fileno()),)
        return host.start(Given(settings=document, artifacts=artifacts))


def _live(lab: "Lab") -> Iterator[Result]:
    host, settings = Host.of(lab.world, "predictor-1"), settings_of(lab.world, "predictor-1")
    for tries, (make, reason) in FILES.items():
        with tempfile.TemporaryDirectory(prefix="sottovoce-attack-") as name:
            folder, mark = Path(name), Path(name) / "mark"
            outcome = described(make(mark), folder)
            if reason:
                yield Result(
                    tries=f"{tries}, described", wanted=frozenset({"model"}), reason=reason, outcome=outcome
                )
            outcome = start(host, settings, folder / _FILE)
            if mark.exists():
                outcome = Outcome(stopped_by=frozenset(), says="its code has run")
            yield Result(
                tries=f"{tries}, in a CVM", wanted=frozenset({"boot"}), reason=_UNLOADED, outcome=outcome
            )


ATTACK: Final = Attack(
    name="pickled-weights",
    row="15",
    who=HOST,
    tries="a file that runs code when it is loaded, under a model's name and with its digest in the settings",
    stopped_by=("model", "boot"),
    live=_live,
)
