"""Debian packages of an image, and of the emulator, fetched by their digests and by nothing else."""

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core.errors import UnavailableError

__all__ = [
    "MIRROR",
    "Fetch",
    "Package",
    "Source",
    "StaleLockError",
    "archive_of",
    "fetch",
    "fetch_source",
    "get",
]

MIRROR: Final = "http://deb.debian.org/debian"
"""Where packages come from; what comes is checked by its digest, so no connection to it need be trusted."""
SNAPSHOT: Final = "https://snapshot.debian.org"
RENEW: Final = "sottovoce image lock"
_TIMEOUT: Final = 60.0


class StaleLockError(UnavailableError):
    """A package of the lock is not at the mirror any more, or is another one there."""

    code = "unavailable.image-lock"


class Package(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One package: exactly these bytes."""

    name: str
    version: str
    suite: str
    path: str
    sha256: str
    size: int


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A source that is compiled: exactly these bytes."""

    url: str
    sha256: str
    size: int


Fetch = Callable[[str, int], bytes]
"""What is at a URL, of so many bytes at most. Raises FileNotFoundError where nothing is, OSError where nobody answers."""


def archive_of(mirror: str, suite: str) -> str:
    """Where the archive that has this suite is: security updates have one of their own."""
    return mirror + "-security" if suite.endswith("-security") else mirror


def fetch(
    package: Package, cache: Path, *, ask: Fetch | None = None, mirror: str = MIRROR, renew: str = RENEW
) -> bytes:
    """The bytes of a package: from `cache`, where each lies under its digest, or from the mirror. `renew` is the command that makes a new lock.

    Raises:
        StaleLockError: the mirror has it no more, or something else in its place. Nothing else is taken instead.
        UnavailableError: the mirror does not answer.
    """
    return _taken(
        package,
        cache / f"{package.sha256}.deb",
        lambda: (ask or get)(f"{archive_of(mirror, package.suite)}/{package.path}", package.size),
        what=f"{package.name} {package.version}",
        party="mirror",
        where=f"get it from {SNAPSHOT}/package/ and put it",
        renew=renew,
    )


def fetch_source(source: Source, cache: Path, *, ask: Fetch | None = None, renew: str = RENEW) -> bytes:
    """The bytes of a source. Raises as `fetch`."""
    return _taken(
        source,
        cache / f"{source.sha256}.source",
        lambda: (ask or get)(source.url, source.size),
        what=source.url.rpartition("/")[2],
        party="index",
        where="put it",
        renew=renew,
    )


def _taken(
    one: Package | Source,
    kept: Path,
    ask: Callable[[], bytes],
    *,
    what: str,
    party: str,
    where: str,
    renew: str,
) -> bytes:
    def stale(how: str) -> StaleLockError:
        hint = f"to rebuild this release, {where} at {kept}; for a new release, run `{renew}`"
        return StaleLockError(f"the lock is stale: {what} {how}", party=party, hint=hint)

    try:
        data = kept.read_bytes()
    except FileNotFoundError:
        data = b""
    if _is(one, data):
        return data
    try:
        data = ask()
    except FileNotFoundError:
        raise stale(f"is not at the {party} any more") from None
    except OSError:
        raise UnavailableError(
            f"the {party} that has {what} does not answer",
            party=party,
            hint="try again; what was fetched is kept",
        ) from None
    if not _is(one, data):
        raise stale(f"has other bytes at the {party}")
    _keep(kept, data)
    return data


def _is(one: Package | Source, data: bytes) -> bool:
    return len(data) == one.size and hashlib.sha256(data).hexdigest() == one.sha256


def _keep(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: two builds may fetch at once.
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    Path(name).replace(path)


def get(url: str, most: int) -> bytes:
    """What is at `url`. Raises as `Fetch`."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310 - http by design: the digest decides
            data: bytes = answer.read(most + 1)
            if len(data) <= most and getattr(answer, "length", None):
                # It is cut off: not what the mirror has.
                raise OSError
            return data
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise FileNotFoundError from None
        raise OSError from None
    except http.client.HTTPException:
        # What came is no answer, or one in pieces that is cut off.
        raise OSError from None
