"""An image that is not what its source and lock make: one byte is another one, or one package (row 18).

one bit of what is launched              another launch digest: a device refuses it, and `sottovoce image measure` says so
one byte of a file, or one package       `sottovoce image rebuild` names the file, whatever the manifest beside the image says
another package under the right name     refused by its digest, before anything is made of it
"""

import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sottovoce.attacks.attack import Attack, Outcome, Result, refusal
from sottovoce.attacks.images import Built, built, entries, flipped, measured
from sottovoce.core.errors import VerificationError
from sottovoce.image.build import Image, Materials
from sottovoce.image.files import File, Files
from sottovoce.image.firmware import Firmware
from sottovoce.image.lock import Lock
from sottovoce.image.manifest import Manifest
from sottovoce.image.packages import Package, fetch
from sottovoce.image.wheels import Wheel, fetch_wheels

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab
    from sottovoce.attacks.workshop import Workshop

__all__ = ["ATTACK", "BITS", "byte_changed", "package_swapped", "swapped_package", "swapped_wheel"]

_LOCK: Final = "unavailable.image-lock"
_REBUILD, _MEASURE = "image-rebuild", "image-measure"
"""What stops it: whoever runs these commands is told."""
_MODULE: Final = "h11/_connection.py"
_LIBRARY: Final = "libexpat.so.1"
_TIMEOUT: Final = 600

BITS: Final[Mapping[str, Callable[[Built], Image]]] = {
    "one bit of the kernel": lambda one: replace(one.image, kernel=flipped(one.image.kernel)),
    "one bit of the RAM disk": lambda one: replace(one.image, initrd=flipped(one.image.initrd)),
    "one bit of the firmware": lambda one: replace(
        one.image, firmware=Firmware.parse(flipped(one.image.firmware.data))
    ),
}


def byte_changed(made_of: Materials) -> Materials:
    """The same with one byte more in a module of a wheel."""
    file = made_of.site[_MODULE]
    return replace(made_of, site={**made_of.site, _MODULE: replace(file, content=file.content + b"\n")})


def package_swapped(made_of: Materials) -> Materials:
    """The same with another package in the place of one."""
    return replace(made_of, packages=tuple(map(_swapped, made_of.packages)))


def _swapped(files: Files) -> Files:
    return {path: _other(file) if _is_swapped(path, file) else file for path, file in files.items()}


def _is_swapped(path: str, file: File) -> bool:
    return path.rpartition("/")[2].startswith(_LIBRARY) and stat.S_ISREG(file.mode)


def _other(file: File) -> File:
    return replace(file, content=flipped(file.content))


# What the mirror gives.


@contextmanager
def _mirror(data: bytes) -> Iterator[str]:
    """A mirror that has these bytes at every address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/debian"
        finally:
            server.shutdown()


def swapped_package(package: Package, data: bytes, *, kept: bool = False) -> Outcome:
    """What a builder says to a mirror with `data` in the place of `package`; with `kept`, to a cache too."""
    with tempfile.TemporaryDirectory(prefix="sottovoce-attack-") as name, _mirror(data) as mirror:
        if kept:
            (Path(name) / f"{package.sha256}.deb").write_bytes(data)
        return refusal(lambda: fetch(package, Path(name), mirror=mirror))


def swapped_wheel(wheel: Wheel, data: bytes) -> Outcome:
    """What a builder says to an index with `data` in the place of `wheel`."""

    def download(_: str, place: Path) -> bool:
        (place / wheel.file).write_bytes(data)
        return True

    with tempfile.TemporaryDirectory(prefix="sottovoce-attack-") as name:
        return refusal(lambda: fetch_wheels([wheel], Path(name), download=download))


def _fetched(lock: Lock) -> Iterator[Result]:
    package, wheel = min(lock.packages, key=lambda one: one.size), lock.wheels[0]
    data = os.urandom(package.size)
    for tries, outcome, reason in (
        ("as long as it should be", swapped_package(package, data), "has other bytes at the mirror"),
        ("longer", swapped_package(package, data + b"!"), "has other bytes at the mirror"),
        ("kept from before", swapped_package(package, data, kept=True), "has other bytes at the mirror"),
        ("a wheel", swapped_wheel(wheel, data), "is not to be had as it was"),
    ):
        yield Result(
            tries=f"a package with the right name and other bytes: {tries}",
            wanted=frozenset({_LOCK}),
            reason=reason,
            outcome=outcome,
        )


# What whoever rebuilds is told.


def _publish(folder: Path, image: Image, lock: Lock) -> str:
    """Put the image's files in the place of those in `folder`, and into its manifest what fits them; the manifest's path."""
    path = folder / "manifest.json"
    artifacts = {name: hashlib.sha256(data).hexdigest() for name, data in image.files().items()}
    manifest = msgspec.structs.replace(
        Manifest.parse(path.read_bytes()),
        artifacts=artifacts,
        digests=image.digests(),
        lock=hashlib.sha256(lock.to_toml()).hexdigest(),
    )
    for name, data in {**image.files(), path.name: manifest.encode()}.items():
        (folder / name).write_bytes(data)
    return str(path)


def _command(workshop: "Workshop", *words: str) -> "subprocess.CompletedProcess[str]":
    cache = workshop.packages.parent.parent  # as the command finds it
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-P", "-m", "sottovoce", "image", *words],
        cwd=workshop.project,
        env={**kept, "PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )


def _differs(done: "subprocess.CompletedProcess[str]", code: str, named: str) -> Outcome:
    """Whether the command says that it is another image, and names what differs."""
    found = [line.strip() for line in done.stdout.splitlines() if named in line]
    return Outcome(
        stopped_by=frozenset({code} if done.returncode == 1 and found else ()), says=" / ".join(found[:1])
    )


def _checked(workshop: "Workshop", altered: Mapping[str, tuple[Image, Lock, str]]) -> Iterator[Result]:
    """Each altered image published, and rebuilt by somebody."""
    with tempfile.TemporaryDirectory(prefix="sottovoce-attack-") as name:
        folder, settings = Path(name) / "image", Path(name) / "settings.json"
        manifest = str(folder / "manifest.json")
        settings.write_bytes(built(workshop).settings)
        for words in (
            ("build", str(settings), "--out", str(folder)),
            ("measure", manifest),
            ("rebuild", manifest),
        ):
            if (done := _command(workshop, *words)).returncode:
                raise VerificationError(
                    f"`image {words[0]}` says no to what is published",
                    check=(done.stderr or done.stdout)[-300:],
                )
        genuine = (folder / "initrd").read_bytes()
        (folder / "initrd").write_bytes(flipped(genuine))
        yield Result(
            tries="one bit of the RAM disk, measured by somebody",
            wanted=frozenset({_MEASURE}),
            outcome=_differs(_command(workshop, "measure", manifest), _MEASURE, "NOT AS PUBLISHED"),
        )
        (folder / "initrd").write_bytes(genuine)
        for tries, (image, lock, path) in altered.items():
            outcome = _differs(_command(workshop, "rebuild", _publish(folder, image, lock)), _REBUILD, path)
            yield Result(tries=f"{tries}, rebuilt by somebody", wanted=frozenset({_REBUILD}), outcome=outcome)


def _other_lock(lock: Lock) -> Lock:
    """One that names another package in the place of one."""
    changed = (
        msgspec.structs.replace(one, sha256=hashlib.sha256(b"another").hexdigest())
        if one.name.startswith("libexpat")
        else one
        for one in lock.packages
    )
    return msgspec.structs.replace(lock, packages=tuple(changed))


def _live(lab: "Lab") -> Iterator[Result]:
    workshop = lab.workshop
    if workshop.has_lock:
        yield from _fetched(workshop.lock)
    names = ("one byte more in a module", "one package swapped, and the lock with it")
    if workshop.missing:
        yield from measured(lab, {name: lambda one: one.image for name in (*BITS, *names)})
        for name in names:
            yield Result(
                tries=f"{name}, rebuilt by somebody", wanted=frozenset({_REBUILD}), not_run=workshop.missing
            )
        return
    published = built(workshop)
    changed, swapped = (
        published.again(change(published.made_of)) for change in (byte_changed, package_swapped)
    )
    inside = dict(zip(names, (changed, swapped), strict=True))
    yield from measured(lab, {**BITS, **{name: partial(_given, image) for name, image in inside.items()}})
    yield from _checked(
        workshop,
        {
            names[0]: (changed, workshop.lock, f"{_MODULE}c: other content"),
            names[1]: (swapped, _other_lock(workshop.lock), f"{_LIBRARY}: other content"),
        },
    )


def _given(image: Image, _: Built) -> Image:
    return image


ATTACK: Final = Attack(
    name="altered-image",
    row="18",
    who="whoever builds or publishes images, or has the mirror from which their packages come",
    tries="one bit of an image, one byte of a file in it, or one package swapped",
    stopped_by=(_LOCK, "measurement", _MEASURE, _REBUILD),
    entries=entries,
    needs_image=True,
    live=_live,
)
