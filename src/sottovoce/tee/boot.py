"""The first program of a CVM (protocol section 8).

    sottovoce.tee.boot --settings-fd N --wiring-fd N --listen-fd N [--processor-fd N] [--ready-fd N] [--artifact NAME=N]...

It gets descriptors and nothing else: no path, no environment. `--processor-fd` is the socket to the host, which has the papers, and
where the machine is simulated the security processor. Whatever is wrong stops the boot.
"""

import argparse
import contextlib
import hashlib
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sottovoce.core.errors import ConfigError, SottovoceError
from sottovoce.core.events import EventLog
from sottovoce.tee.attestation import Attester
from sottovoce.tee.collectors.choose import choose
from sottovoce.tee.logfilter import Party, Started
from sottovoce.tee.rehearsal import rehearse
from sottovoce.tee.reporter import Reporter
from sottovoce.tee.roles import load_role
from sottovoce.tee.sandbox import die_with_parent, swap_is_on
from sottovoce.tee.server import Server
from sottovoce.tee.settings import ArtifactMismatchError, Settings, parse_settings, parse_wiring
from sottovoce.tee.volume import BLOCK, hold
from sottovoce.tee.worker import Machine
from sottovoce.tlog.artifacts import artifact_digest

__all__ = ["boot", "check_artifacts", "main"]

_DOCUMENT: Final = 64 * 1024
_CHUNK: Final = 1 << 20
_FAILED: Final = 2
_PURPOSE: Final = "inference"
"""What a model may be for."""


def check_artifacts(settings: Settings, artifacts: Mapping[str, int]) -> None:
    """Compare each artifact with the measured settings, before anything reads it; what comes from a volume stays in memory from then on.

    Raises:
        ArtifactMismatchError: missing, too many, for another purpose, or with another digest or size.
        ConfigError: there is not enough memory.
    """
    model = settings.model
    if set(artifacts) != ({model.name} if model else set()):
        raise ArtifactMismatchError("the artifacts are not those of the settings")
    if model is None:
        return
    if model.purpose != _PURPOSE:
        raise ArtifactMismatchError("the settings name an artifact for another purpose")
    try:
        size, digest = _contents(artifacts[model.name], model.bytes)
    except OSError:
        # A volume's block that is not the published one is an error of the disk.
        raise ArtifactMismatchError("an artifact cannot be read as it was published") from None
    found = artifact_digest(name=model.name, purpose=_PURPOSE, sha256=digest, size=size)
    if (size, found) != (model.bytes, model.digest):
        raise ArtifactMismatchError("an artifact is not the one in the settings")
    hold(artifacts[model.name], model.bytes)


def _contents(fd: int, size: int) -> tuple[int, str]:
    """The length and the SHA-256, in hex, of a file; or of the file of `size` bytes in a volume, which ends with a whole block."""
    # One byte more than there should be says enough; what has no end is not read for ever.
    end = size + 1
    if stat.S_ISBLK(os.fstat(fd).st_mode) and 0 <= os.lseek(fd, 0, os.SEEK_END) - size < BLOCK:
        end = size
    digest, at = hashlib.sha256(), 0
    while piece := os.pread(fd, min(_CHUNK, end - at), at):
        digest.update(piece)
        at += len(piece)
    return at, digest.hexdigest()


def boot(arguments: argparse.Namespace) -> None:
    """Start the CVM and serve until SIGTERM.

    Raises:
        SottovoceError: something is not as it must be.
    """
    began = time.monotonic()
    # First of all: it is forked while there is nothing to hand on but the hardware.
    reporter = _reporter(arguments.processor_fd)
    settings = parse_settings(_document(arguments.settings_fd))
    wiring = parse_wiring(_document(arguments.wiring_fd), settings)
    artifacts = dict(arguments.artifact)
    if len(artifacts) != len(arguments.artifact):
        raise ConfigError("an artifact is given twice")
    if settings.platform != reporter.kind:
        raise ConfigError("the settings are for another platform")
    check_artifacts(settings, artifacts)
    role = load_role(settings.role)
    role.warm(settings, artifacts)
    log = EventLog(_write)
    attester = Attester(settings, kind=reporter.kind, bundle=reporter.bundle())
    machine = Machine(
        role=role, settings=settings, attester=attester, wiring=wiring, lock_memory=swap_is_on()
    )
    rehearse(machine, reporter, log)

    def ready() -> None:
        log.emit(Started(role=Party(settings.role), warm_ms=round((time.monotonic() - began) * 1000)))
        if arguments.ready_fd is not None:
            with contextlib.suppress(OSError):
                os.write(arguments.ready_fd, b"1")
            os.close(arguments.ready_fd)

    listener = socket.socket(fileno=arguments.listen_fd)
    Server(machine, reporter=reporter, listener=listener, log=log, ready=ready).run()


def _reporter(fd: int | None) -> Reporter:
    channel = socket.socket(fileno=fd) if fd is not None else None
    return Reporter(choose(channel), owned=(channel,) if channel is not None else ())


def _document(fd: int) -> bytes:
    with open(fd, "rb", closefd=True) as file:
        return file.read(_DOCUMENT + 1)


def _write(line: str) -> None:
    # One write a line, so that lines of several processes do not mix; a log that is gone stops nothing.
    with contextlib.suppress(OSError):
        os.write(2, line.encode())


def _artifact(text: str) -> tuple[str, int]:
    name, found, fd = text.rpartition("=")
    if not found or not fd.isdecimal():
        raise argparse.ArgumentTypeError("NAME=FD")
    return name, int(fd)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sottovoce.tee.boot", allow_abbrev=False)
    for name in ("settings", "wiring", "listen"):
        parser.add_argument(f"--{name}-fd", type=int, required=True)
    parser.add_argument("--processor-fd", type=int)
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--artifact", type=_artifact, action="append", default=[])
    return parser


def main(argv: Sequence[str] | None = None, *, start: Callable[[argparse.Namespace], None] = boot) -> int:
    """Run; the exit status. What goes wrong is one line without a traceback."""
    die_with_parent(os.getppid())
    try:
        start(_parser().parse_args(argv))
    except SottovoceError as error:
        _write(f"sottovoce: {error}\n")
        return _FAILED
    except Exception as error:  # noqa: BLE001 - its text may hold anything; its type does not
        _write(f"sottovoce: the CVM stopped ({type(error).__name__})\n")
        return _FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
