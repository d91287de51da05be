"""A simulated machine: measures a CVM, starts it, and is its security processor and its host.

    start a CVM with open descriptors only ─▶ measure what it runs ─▶ answer its requests until it ends

It measures while the CVM loads its model, and answers nothing before the measurement is complete.

The chip's key never leaves this process. The CVM gets an empty environment and no path: settings, wiring, artifacts, its
listening socket and the channel to the security processor are descriptors.
"""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.attest.evidence import Endorsements, Logged
from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError, SottovoceError
from sottovoce.simulator.emulator import Emulator, Launch, Programs
from sottovoce.simulator.measure import code_root, measure, measure_code, measure_files, start_command
from sottovoce.simulator.pki import SimulatedChip
from sottovoce.simulator.processor import SimulatedProcessor
from sottovoce.tee.collectors.base import REPORT_DATA, Bundle
from sottovoce.tee.collectors.simulated import ENDORSEMENTS, LENGTH, REPORT
from sottovoce.tee.logfilter import Started

__all__ = ["PLACE", "Config", "read_bundle", "run", "write_bundle"]

PLACE: Final = "emulator"
"""Beside a machine's papers: where its emulator has its sockets."""
_STOP_AFTER: Final = 3.0
_PAPERS_AFTER, _PAUSE = 180.0, 0.05


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One simulated machine and the CVM that it starts; paths are absolute."""

    settings: str
    """The measured settings document."""
    artifacts: dict[str, str] = {}
    """Name → file."""
    purpose: str = "inference"
    """What the artifacts are for; measured with them."""
    chip: str
    """The simulated chip."""
    bundle: str
    """Folder of public papers: certificates, log entries, proofs. Read again for each request."""
    wiring: dict[str, str] = {}
    """Back end's role → "ADDRESS:PORT"; not measured."""
    code: str = ""
    """Folder that holds the package to run; the running one if empty."""
    report_delay: float = 0.0
    """Seconds that the security processor takes for a report; not measured."""
    image: str = ""
    """Folder of an image: its very bytes are booted in an emulated machine, with the settings that are in it."""
    programs: str = ""
    """Folder with the emulator's programs; those on PATH if empty."""
    traffic: str = ""
    """Folder for what goes over each connection of an emulated machine; nothing is written down if empty."""


def write_bundle(folder: Path, bundle: Bundle) -> None:
    """Put the papers where a machine reads them; each file is replaced at once."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / "bundle.cbor.new"
    staged.write_bytes(bundle.encode())
    staged.replace(folder / "bundle.cbor")


def read_bundle(folder: Path, vcek: bytes) -> Bundle:
    """The papers of a machine whose chip has the certificate `vcek`.

    Raises:
        ConfigError: there are none, or they are malformed.
    """
    try:
        bundle = Bundle.decode((folder / "bundle.cbor").read_bytes())
    except (OSError, SottovoceError):
        raise ConfigError("the machine's bundle of public papers is missing or malformed") from None
    papers = bundle.endorsements
    return Bundle(
        endorsements=Endorsements(vcek=vcek, ask=papers.ask, crl=papers.crl),
        release=Logged(entry=bundle.release.entry, proof=bundle.release.proof),
        host=Logged(entry=bundle.host.entry, proof=bundle.host.proof),
    )


def _published(folder: Path, vcek: bytes) -> Bundle:
    """The papers, for which a machine that starts before its release is published waits a while."""
    deadline = time.monotonic() + _PAPERS_AFTER
    while not (folder / "bundle.cbor").exists() and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return read_bundle(folder, vcek)


def run(config: Config, sock: socket.socket, ready: Callable[[], None]) -> None:
    """Measure, start and serve one CVM until it ends or this process is told to stop.

    Raises:
        ConfigError: a file is missing, or the CVM did not start.
    """
    if config.image:
        _emulate(config, sock, ready)
        return
    try:
        settings = Path(config.settings).read_bytes()
    except OSError:
        raise ConfigError("the settings document cannot be read") from None
    artifacts = {name: Path(path) for name, path in config.artifacts.items()}
    root = Path(config.code) if config.code else code_root()
    chip = SimulatedChip.load(Path(config.chip))
    ours, theirs = socket.socketpair()
    listens, says_so = os.pipe()
    child = _start(
        settings=settings,
        wiring=canonical.encode(config.wiring),
        artifacts=artifacts,
        root=root,
        sock=sock,
        channel=theirs,
        ready=says_so,
    )
    os.close(says_so)
    theirs.close()
    sock.close()
    _end_together(child)

    def papers() -> bytes:
        return _published(Path(config.bundle), chip.vcek).encode()

    try:
        measurement = measure(
            settings=settings,
            artifacts=measure_files(artifacts, purpose=config.purpose),
            code=measure_code(root),
        )
        processor = SimulatedProcessor(chip, measurement.digest, delay=config.report_delay)
        _serve(ours, listens, processor, papers, ready)
    except BaseException:
        child.terminate()
        raise
    finally:
        # Its end of the channel closes when it ends: it is not asked to, so that its exit status is its own.
        code = _wait(child)
    if code > 0:
        raise ConfigError("the CVM stopped", hint="its own line above says why")


def _emulate(config: Config, sock: socket.socket, ready: Callable[[], None]) -> None:
    """The same with the bytes of an image."""
    launch = Launch.read(Path(config.image))
    chip = SimulatedChip.load(Path(config.chip))
    processor = SimulatedProcessor(chip, launch.measurement(), delay=config.report_delay)
    over = threading.Event()

    def papers() -> bytes:
        return _published(Path(config.bundle), chip.vcek).encode()

    def serve(channel: socket.socket) -> None:
        with channel, contextlib.suppress(ConfigError):
            while _answer(channel, processor, papers):
                pass

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    programs = Programs.find([Path(config.programs)] if config.programs else [])
    back_ends = {role: _address(value) for role, value in config.wiring.items()}
    with Emulator(
        launch,
        programs,
        papers=serve,
        log=_Passing(ready),
        back_ends=back_ends,
        traffic=Path(config.traffic) if config.traffic else None,
    ) as machine:
        # For whoever wants to look into it.
        papers_at = Path(config.bundle)
        papers_at.mkdir(parents=True, exist_ok=True)
        (papers_at / PLACE).write_text(str(machine.place))
        machine.serve(sock)
        while not over.is_set():
            if machine.wait(_PAUSE):
                raise ConfigError("the emulated machine has powered off", hint=machine.console.strip()[-200:])


class _Passing:
    """The CVM's log becomes this process's own, as where the CVM is a process; `ready` is called when it says that it serves."""

    def __init__(self, ready: Callable[[], None]) -> None:
        self._ready: Callable[[], None] | None = ready
        self._begun = b""

    def __call__(self, lines: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(2, lines)
        if self._ready is None:
            return
        self._begun += lines
        if f'"event": "{Started.__name__}"'.encode() in self._begun:
            self._ready()
            self._ready = None


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _wait(child: "subprocess.Popen[bytes]") -> int:
    try:
        return child.wait(_STOP_AFTER)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _start(
    *,
    settings: bytes,
    wiring: bytes,
    artifacts: Mapping[str, Path],
    root: Path,
    sock: socket.socket,
    channel: socket.socket,
    ready: int,
) -> "subprocess.Popen[bytes]":
    with contextlib.ExitStack() as stack:
        descriptors = {
            "--settings-fd": stack.enter_context(_memory(settings)),
            "--wiring-fd": stack.enter_context(_memory(wiring)),
            "--listen-fd": sock.fileno(),
            "--processor-fd": channel.fileno(),
            "--ready-fd": ready,
        }
        arguments = [str(word) for pair in descriptors.items() for word in pair]
        opened = []
        for name, path in artifacts.items():
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                raise ConfigError(f"the artifact {name} cannot be read") from None
            stack.callback(os.close, descriptor)
            opened.append(descriptor)
            arguments += ["--artifact", f"{name}={descriptor}"]
        command = [*start_command(root), *arguments]
        return subprocess.Popen(  # noqa: S603 - our own interpreter and program
            command, pass_fds=(*descriptors.values(), *opened), env={}, cwd="/", stdin=subprocess.DEVNULL
        )


@contextlib.contextmanager
def _memory(data: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("sottovoce")
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _end_together(child: "subprocess.Popen[bytes]") -> None:
    def stop(_signal: int, _frame: object) -> None:
        child.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _serve(
    channel: socket.socket,
    listens: int,
    processor: SimulatedProcessor,
    papers: Callable[[], bytes],
    ready: Callable[[], None],
) -> None:
    """Answer the CVM until it closes its end; call `ready` when it says that it listens."""
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        selector.register(listens, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == listens:
                    selector.unregister(listens)
                    if os.read(listens, 1):
                        ready()
                elif not _answer(channel, processor, papers):
                    return


def _answer(channel: socket.socket, processor: SimulatedProcessor, papers: Callable[[], bytes]) -> bool:
    operation = _read(channel, 1)
    if not operation:
        return False
    if operation[0] == ENDORSEMENTS:
        answer = papers()
    elif operation[0] == REPORT and (report_data := _read(channel, REPORT_DATA)):
        answer = processor.report(report_data)
    else:
        raise ConfigError("the CVM asked its security processor for something unknown")
    with contextlib.suppress(OSError):
        channel.sendall(LENGTH.pack(len(answer)) + answer)
    return True


def _read(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        try:
            piece = channel.recv(count - len(data))
        except OSError:
            piece = b""
        if not piece:
            return b""
        data += piece
    return data
