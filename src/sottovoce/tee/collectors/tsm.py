"""Reports through configfs-tsm (Linux 6.7 and newer, Documentation/ABI/testing/configfs-tsm-report).

    mkdir report/NAME ─▶ read generation, privlevel_floor ─▶ write inblob, privlevel ─▶ read provider, outblob, auxblob ─▶ read generation ─▶ rmdir

Each write adds one to the generation. If it has grown by another number when the report has been read, a write was lost (a
binary attribute takes effect when its file is closed, where an error can no longer be returned) or somebody else wrote: then
what was read may be over other data, and everything is done again. An entry of our own makes that unlikely, not impossible.

An entry's name is drawn at random, so that processes do not meet. One that is killed leaves its entry; nobody else removes it, as it
could still be in use. It lasts no longer than the CVM and holds a report that anybody may see.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from sottovoce.core.errors import UnavailableError
from sottovoce.tee.collectors.base import PROCESSOR, REPORT_DATA, Bundle, check_report_data
from sottovoce.tee.collectors.certificates import parse_table, with_certificates

__all__ = ["KINDS", "REPORTS", "Files", "KernelFiles", "TsmCollector", "tsm_kind"]

REPORTS: Final = "/sys/kernel/config/tsm/report"
KINDS: Final = {"sev_guest": "sev-snp", "tdx_guest": "tdx"}
"""What the kernel calls a provider → the platform kind."""

_BLOB: Final = 32 * 1024
"""TSM_REPORT_OUTBLOB_MAX of include/linux/tsm.h."""
_WORD: Final = 64
_ATTEMPTS: Final = 8
_PAUSE: Final = 0.005
"""Seconds between attempts."""
_AGAIN: Final = frozenset({errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.EEXIST})
"""EBUSY: too many writes without a read; EAGAIN (EWOULDBLOCK): the report is older than the last write; EEXIST: another's name."""
_WHAT_TO_DO: Final = {
    errno.ENXIO: "load the module sev-guest or tdx-guest: no provider of reports is registered",
    errno.ENOENT: "mount configfs and load the module tsm: there is no report interface",
    errno.ENOTTY: "the provider of reports is gone, or its key is disabled; start the CVM again",
    errno.EINVAL: "the kernel refused the request; a privilege level below `privlevel_floor` is one cause",
    errno.ETIMEDOUT: "the host throttles requests for reports, or its quoting service does not answer",
    errno.EIO: "the host refused the report; its quoting service, or certificates of more than 16 KiB, are one cause",
    errno.EFBIG: "the report is longer than the kernel's limit; use a newer kernel",
    errno.EACCES: "only the CVM's first process, as root, may ask for reports",
    errno.EPERM: "only the CVM's first process, as root, may ask for reports",
}


class Files(Protocol):
    """The file operations that the interface needs; each raises OSError as the system call does."""

    def make(self, path: str) -> None:
        """Mkdir."""

    def remove(self, path: str) -> None:
        """Rmdir; in configfs the attributes go along."""

    def read(self, path: str, limit: int) -> bytes:
        """The whole file; EFBIG if it is longer than `limit`."""

    def write(self, path: str, data: bytes) -> None:
        """Write all of `data` at once."""


class KernelFiles:
    """The real ones."""

    def make(self, path: str) -> None:
        """Mkdir."""
        Path(path).mkdir(0o700)

    def remove(self, path: str) -> None:
        """Rmdir."""
        Path(path).rmdir()

    def read(self, path: str, limit: int) -> bytes:
        """The whole file; EFBIG if it is longer than `limit`."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = bytearray()
            while piece := os.read(fd, limit + 1 - len(data)):
                data += piece
                if len(data) > limit:
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            return bytes(data)
        finally:
            os.close(fd)

    def write(self, path: str, data: bytes) -> None:
        """Write all of `data` at once."""
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.write(fd, data) != len(data):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class _Blobs:
    provider: str
    out: bytes
    aux: bytes


class _MovedError(Exception):
    """The generation is not the one that our writes lead to."""


class TsmCollector:
    """Reports of the provider that the kernel has; `papers` asks the host for the rest.

    `privlevel` is the VMPL that the report names, 0 to 3; None is the lowest that the kernel allows, which is the guest's own: above 0
    where something more trusted runs beneath it (an SVSM).
    """

    def __init__(
        self,
        papers: Callable[[], Bundle],
        *,
        kind: str,
        privlevel: int | None = None,
        root: str = REPORTS,
        files: Files | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.kind: Final = kind
        self._papers = papers
        self._privlevel = privlevel
        self._root = root
        self._files = files or KernelFiles()
        self._sleep = sleep

    def report(self, report_data: bytes) -> bytes:
        """A report over 64 bytes: an SNP report of 1,184 bytes or a TDX quote.

        Raises:
            UnavailableError: the kernel gives none; the hint says what to do.
        """
        return self._collect(check_report_data(report_data)).out

    def bundle(self) -> Bundle:
        """The host's papers, with the certificates that came with a report.

        Raises:
            UnavailableError: the kernel or the host does not answer.
            DecodeError: the papers or the certificates are malformed.
        """
        bundle = self._papers()
        if self.kind != KINDS["sev_guest"]:
            return bundle
        return with_certificates(bundle, parse_table(self._collect(bytes(REPORT_DATA)).aux))

    def _collect(self, report_data: bytes) -> _Blobs:
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sleep(_PAUSE)
            try:
                with _entry(self._files, self._root) as entry:
                    blobs = self._once(entry, report_data)
            except _MovedError:
                continue
            except OSError as error:
                if error.errno not in _AGAIN:
                    raise _unavailable(error) from None
                continue
            if KINDS.get(blobs.provider) != self.kind or not blobs.out:
                raise UnavailableError("the kernel's provider of reports is another", party=PROCESSOR)
            return blobs
        raise UnavailableError(
            "the kernel's report interface is busy", party=PROCESSOR, hint="something else writes to it"
        )

    def _once(self, entry: str, report_data: bytes) -> _Blobs:
        files = self._files
        before = self._generation(entry)
        files.write(f"{entry}/inblob", report_data)
        writes = 1
        level = self._floor(entry) if self._privlevel is None else self._privlevel
        if level is not None:
            files.write(f"{entry}/privlevel", b"%d" % level)
            writes += 1
        provider = _word(files.read(f"{entry}/provider", _WORD))
        out, aux = files.read(f"{entry}/outblob", _BLOB), self._aux(entry)
        if self._generation(entry) != before + writes:
            raise _MovedError
        return _Blobs(provider, out, aux)

    def _generation(self, entry: str) -> int:
        return self._number(f"{entry}/generation")

    def _floor(self, entry: str) -> int | None:
        """The lowest level that may be asked for; None where that is 0, which the kernel takes by itself, or there are no levels."""
        try:
            return self._number(f"{entry}/privlevel_floor") or None
        except FileNotFoundError:
            return None

    def _number(self, path: str) -> int:
        text = _word(self._files.read(path, _WORD))
        if not text.isascii() or not text.isdecimal():
            raise UnavailableError("the kernel's report interface is not one that we know", party=PROCESSOR)
        return int(text)

    def _aux(self, entry: str) -> bytes:
        try:
            return self._files.read(f"{entry}/auxblob", _BLOB)
        except FileNotFoundError:  # a provider may have none, and then shows no attribute
            return b""


def tsm_kind(*, root: str = REPORTS, files: Files | None = None) -> str | None:
    """The platform kind of the kernel's provider of reports; None where there is none that we may use.

    Raises:
        UnavailableError: there is one, and it is not known.
    """
    files = files or KernelFiles()
    try:
        with _entry(files, root) as entry:
            provider = _word(files.read(f"{entry}/provider", _WORD))
    except OSError:
        return None
    if provider not in KINDS:
        raise UnavailableError("the kernel has a provider of reports that is not known", party=PROCESSOR)
    return KINDS[provider]


@contextlib.contextmanager
def _entry(files: Files, root: str) -> Iterator[str]:
    path = f"{root}/sottovoce-{os.urandom(8).hex()}"
    files.make(path)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            files.remove(path)


def _word(data: bytes) -> str:
    return data.decode("ascii", "replace").strip()


def _unavailable(error: OSError) -> UnavailableError:
    number = error.errno or 0
    return UnavailableError(
        f"the kernel gives no report ({errno.errorcode.get(number, 'unknown')})",
        party=PROCESSOR,
        hint=_WHAT_TO_DO.get(number, ""),
    )
