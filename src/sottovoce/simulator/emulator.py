"""A machine without SEV-SNP that boots the very bytes of an image: the research environment.

    device side ─▶ TCP ─▶ guest's port 9000 ─┐
    settings of the host (wiring) ─▶ 9001 ───┼─ sockets of vhost-device-vsock ─ QEMU, by software alone
    papers, simulated processor ─▶ 9002 ─────┤
    log ◀─ 9003 ◀────────────────────────────┤
    back ends ◀─ TCP ◀─ 9100, 9101, … ◀──────┘

The firmware finds the table of hashes where SEV-SNP would have put it, and boots nothing else. But memory is not encrypted, the host can read and change all of it, and the reports are a
simulated chip's: it proves nothing to anybody, and every verdict over it says that it is simulated.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError, UnavailableError
from sottovoce.image.firmware import Firmware
from sottovoce.image.launch import PROCESSORS, Booted, launch_digest
from sottovoce.tee.init import LISTEN, LOG, PAPERS, WIRING

__all__ = ["Emulator", "Launch", "Programs", "dump"]

PROCESSOR: Final = "EPYC-Milan"
"""The type whose digest the simulated processor reports: the emulated one has no type with SEV-SNP."""
MEMORY: Final[Mapping[int, int]] = {0: 512, 256: 1024, 1280: 2560}
"""A volume's most MiB, and the MiB that the machine gets for it."""
_BACK_ENDS: Final = 9100
_OLDEST: Final = 10
"""Major version of QEMU; 7.2 changes the kernel's header, so that its hash is another one."""
_START: Final = 30.0
_STOP: Final = 5.0
_PIECE: Final = 64 * 1024
_VERSION: Final = re.compile(r"version (\d+)\.")
Taker = Callable[[bytes], object]
"""What is called with each piece of what was said."""
HINT: Final = "docs/image.md says which packages have it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """What an emulated machine is made of: paths of programs."""

    qemu: str
    vsock: str

    @classmethod
    def find(cls, places: Sequence[Path] = ()) -> "Programs":
        """Those in `places`, or else on PATH.

        Raises:
            UnavailableError: one of them is not there, or too old.
        """
        path = os.pathsep.join([*map(str, places), os.environ.get("PATH", os.defpath)])
        names = ("qemu-system-x86_64", "vhost-device-vsock")
        found = [shutil.which(name, path=path) for name in names]
        for name, program in zip(names, found, strict=True):
            if program is None:
                raise UnavailableError(f"{name} is not installed here", party="emulator", hint=HINT)
        # A machine is started in a folder of its own.
        qemu, vsock = (str(Path(str(program)).absolute()) for program in found)
        said = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603 - found above
        version = _VERSION.search(said)
        if version is None or int(version[1]) < _OLDEST:
            raise UnavailableError(f"QEMU is older than {_OLDEST}", party="emulator", hint=HINT)
        return cls(qemu=qemu, vsock=vsock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a machine is started with, as bytes: what a dishonest host may change.

    Attributes:
        table: the table of hashes that the firmware looks for; None: the one of these bytes.
        volume: the file with the model's volume, which is the machine's one disk.
        devices: further words for QEMU, as a host would add them.
        sockets: whether the machine has its one device, sockets to its host.
    """

    kernel: bytes
    initrd: bytes
    command_line: str
    firmware: bytes
    table: bytes | None = None
    volume: Path | None = None
    devices: tuple[str, ...] = ()
    sockets: bool = True

    @classmethod
    def read(cls, folder: Path) -> "Launch":
        """The image in `folder`, as `sottovoce image build` wrote it.

        Raises:
            ConfigError: a file of it cannot be read.
        """
        try:
            return cls(
                kernel=(folder / "kernel").read_bytes(),
                initrd=(folder / "initrd").read_bytes(),
                command_line=(folder / "command-line").read_text(),
                firmware=(folder / "firmware").read_bytes(),
                volume=volume.absolute() if (volume := folder / "volume").exists() else None,
            )
        except (OSError, UnicodeError):
            raise ConfigError(
                "the image cannot be read", hint="give the folder that `sottovoce image build` wrote"
            ) from None

    @property
    def booted(self) -> Booted:
        """The digests of what is booted."""
        return Booted.of(self.kernel, self.initrd, self.command_line)

    @property
    def memory(self) -> int:
        """MiB that the machine gets. There are three sizes, as what the host says of its devices (ACPI) also says where memory ends.

        Raises:
            ConfigError: the volume is larger than any has room for.
        """
        volume = self.volume.stat().st_size >> 20 if self.volume else 0
        for most, memory in MEMORY.items():
            if volume <= most:
                return memory
        raise ConfigError(
            "the model is larger than an emulated machine takes", hint="`image boot` is for small ones"
        )

    def measurement(self) -> bytes:
        """The launch digest of these bytes, 48 bytes: what a processor would report that has launched them.

        Raises:
            FirmwareError: the firmware cannot be launched so.
        """
        firmware = Firmware.parse(self.firmware)
        return launch_digest(firmware, self.booted, processor=PROCESSORS[PROCESSOR], count=1)


class Emulator:
    """One emulated machine.

    `back_ends` are addresses of its CVM's back ends, by role; `papers` gets the channel on which the CVM asks for papers and reports, `log` what it writes.
    In the folder `traffic`, if there is to be one, is what goes over each connection with a device and a back end, a file for each way.
    """

    def __init__(
        self,
        launch: Launch,
        programs: Programs,
        *,
        papers: Callable[[socket.socket], object] = lambda channel: channel.close(),
        log: Callable[[bytes], object] = lambda _: None,
        back_ends: Mapping[str, tuple[str, int]] | None = None,
        traffic: Path | None = None,
    ) -> None:
        self._launch = launch
        self._traffic = Traffic(traffic)
        self._programs = programs
        self._papers = papers
        self._log = log
        self._back_ends = dict(back_ends or {})
        self._place = Path(tempfile.mkdtemp(prefix="sottovoce-emulator-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._listeners: list[socket.socket] = []

    @property
    def place(self) -> Path:
        """The folder with its sockets, while it runs: what `dump` wants."""
        return self._place

    def start(self) -> None:
        """Start it. `stop` ends it.

        Raises:
            UnavailableError: a program did not start.
            FirmwareError: the firmware has no place for a table of hashes.
        """
        place = self._place
        try:
            for name, data in (
                ("kernel", self._launch.kernel),
                ("initrd", self._launch.initrd),
                ("firmware", self._launch.firmware),
                ("table", self._launch.table or self._launch.booted.table()),
            ):
                (place / name).write_bytes(data)
            wiring = canonical.encode(
                {role: f"vsock:{_BACK_ENDS + at}" for at, role in enumerate(sorted(self._back_ends))}
            )
            self._listen(WIRING, lambda sock: _give(sock, wiring))
            self._listen(PAPERS, self._papers)
            self._listen(LOG, self._take_log)
            for at, role in enumerate(sorted(self._back_ends)):
                self._listen(_BACK_ENDS + at, self._forward_to(role))
            self._run(
                self._programs.vsock,
                "--vm",
                f"guest-cid=3,socket={place / 'vhost'},uds-path={place / 'vsock'}",
            )
            _await(place / "vhost", self._processes[-1])
            self._run(self._programs.qemu, *self._words(place))
        except BaseException:
            self.stop()
            raise

    def _words(self, place: Path) -> list[str]:
        hashes = Firmware.parse(self._launch.firmware).hashes
        return [
            *("-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", f"{self._launch.memory}M"),
            *("-object", f"memory-backend-memfd,id=memory,size={self._launch.memory}M,share=on"),
            *("-machine", "q35,smm=off,vmport=off,memory-backend=memory"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-bios", str(place / "firmware"), "-kernel", str(place / "kernel")),
            *("-initrd", str(place / "initrd"), "-append", self._launch.command_line),
            *("-device", f"loader,file={place / 'table'},addr={hashes:#x},force-raw=on"),
            *self._sockets(place),
            *self._disk(),
            *("-chardev", f"file,id=console,path={place / 'console'}", "-serial", "chardev:console"),
            *("-qmp", f"unix:{place / 'qmp'},server=on,wait=off"),
            *self._launch.devices,
        ]

    def _sockets(self, place: Path) -> tuple[str, ...]:
        if not self._launch.sockets:
            return ()
        chardev = f"socket,id=vsock,path={place / 'vhost'}"
        return ("-chardev", chardev, "-device", "vhost-user-vsock-pci,chardev=vsock")

    def _disk(self) -> tuple[str, ...]:
        if self._launch.volume is None:
            return ()
        # A comma in a name is written twice (QEMU, "Options").
        name = str(self._launch.volume).replace(",", ",,")
        drive = f"if=none,id=volume,format=raw,readonly=on,file={name}"
        return ("-drive", drive, "-device", "virtio-blk-pci,drive=volume,disable-legacy=on")

    def _run(self, program: str, *words: str) -> None:
        with (self._place / f"{Path(program).name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(  # noqa: S603 - `Programs` found it
                    [*_with_parent(), program, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._place,
                )
            )

    def _listen(self, port: int, serve: Callable[[socket.socket], object]) -> None:
        """Take the guest's connections to the host's `port`, each in a thread of its own."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._place / f"vsock_{port}"))
        listener.listen(128)
        self._listeners.append(listener)
        accepting(listener, serve)

    def _take_log(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while lines := sock.recv(_PIECE):
                self._log(lines)

    def connect(self) -> socket.socket:
        """A connection to the CVM in it.

        Raises:
            UnavailableError: nothing listens there.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(str(self._place / "vsock"))
            sock.sendall(b"CONNECT %d\n" % LISTEN)
            # No byte more than the answer's line: what follows is the CVM's.
            answer = b""
            while (byte := sock.recv(1)) not in (b"", b"\n"):
                answer += byte
        except OSError:
            answer = byte = b""
        if byte != b"\n" or not answer.startswith(b"OK "):
            sock.close()
            raise UnavailableError("the emulated machine does not answer", party="cvm")
        return sock

    def serve(self, listener: socket.socket) -> None:
        """Carry each connection of `listener` to the CVM, until `stop`."""
        self._listeners.append(listener)

        def carry(sock: socket.socket) -> None:
            try:
                inside = self.connect()
            except UnavailableError:
                sock.close()
                return
            _join(sock, inside, *self._traffic.connection("device"))

        accepting(listener, carry)

    def _forward_to(self, role: str) -> Callable[[socket.socket], object]:
        def serve(sock: socket.socket) -> None:
            try:
                other = socket.create_connection(self._back_ends[role])
            except OSError:
                sock.close()
                return
            _join(other, sock, *self._traffic.connection(role))

        return serve

    @property
    def console(self) -> str:
        """What the machine has written on its first serial port."""
        try:
            return (self._place / "console").read_text("utf-8", "replace")
        except OSError:
            return ""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the machine has powered off; whether it has."""
        try:
            self._processes[-1].wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def dump(self, path: Path) -> None:
        """As the function `dump`, of this machine."""
        dump(self._place, path)

    def stop(self) -> None:
        """End it, and leave nothing of it. Never raises."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._place, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _with_parent() -> tuple[str, ...]:
    """What has the kernel end a program when its starter is gone, where util-linux is there."""
    found = shutil.which("setpriv")
    return (found, "--pdeathsig", "KILL", "--") if found else ()


def dump(place: Path, path: Path) -> None:
    """Write all memory of the emulated machine in the folder `place` to `path`, which must be absolute.

    The machine is not stopped first: its sockets would not go on where they were. While QEMU copies, its processor hardly gets on.

    Raises:
        UnavailableError: no machine answers there, or the file cannot be written.
    """
    try:
        # The emulator writes it; nobody else is to read what was in the memory.
        path.touch(mode=0o600)
    except OSError:
        raise UnavailableError("the memory cannot be written there", party="emulator") from None
    size = _ask(place, "query-memory-size-summary", {})
    whole = {"val": 0, "size": size["base-memory"] if size else 0, "filename": str(path)}
    if size is None or _ask(place, "pmemsave", whole) is None:
        raise UnavailableError("the emulated machine does not show its memory", party="emulator")


def _ask(place: Path, command: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """What one command of QEMU's machine protocol (docs/interop/qmp-spec in its source) gave; None where it was not done."""
    answer: dict[str, Any] = {}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_START)
            sock.connect(str(place / "qmp"))
            with sock.makefile("rwb") as lines:
                lines.readline()
                for name, given in (("qmp_capabilities", {}), (command, arguments)):
                    lines.write(json.dumps({"execute": name, "arguments": given}).encode() + b"\n")
                    lines.flush()
                    while "return" not in (answer := json.loads(lines.readline())):
                        if "error" in answer:
                            return None
    except (OSError, ValueError):
        return None
    found: dict[str, Any] = answer["return"]
    return found


def accepting(listener: socket.socket, serve: Callable[[socket.socket], object]) -> None:
    """Call `serve` with each connection of `listener`, each in a thread of its own, until it is closed."""

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def _await(path: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise UnavailableError("vhost-device-vsock did not start", party="emulator")
        time.sleep(0.01)


def _give(sock: socket.socket, data: bytes) -> None:
    with sock, contextlib.suppress(OSError):
        sock.sendall(data)


class Traffic:
    """Where connections are written down: nowhere, if there is no folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._count = itertools.count(1)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def connection(self, who: str) -> tuple[Taker, Taker]:
        """What takes the bytes of the next connection: those to the CVM, those from it."""
        if self._folder is None:
            return _nothing, _nothing
        name = self._folder / f"{next(self._count):04}-{who}"
        return _writes(name.with_name(f"{name.name}-to-cvm")), _writes(
            name.with_name(f"{name.name}-from-cvm")
        )


def _nothing(_: bytes) -> None:
    pass


def _writes(path: Path) -> Taker:
    def take(data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)

    return take


def _join(outside: socket.socket, inside: socket.socket, to: Taker, of: Taker) -> None:
    """Carry bytes both ways until both ends have said their last; `to` also gets those to the CVM, `of` those from it."""
    for one in (outside, inside):
        with contextlib.suppress(OSError):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    back = threading.Thread(target=_carry, args=(inside, outside, of), daemon=True)
    back.start()
    _carry(outside, inside, to)
    back.join()
    outside.close()
    inside.close()


def _carry(source: socket.socket, sink: socket.socket, take: Taker) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_PIECE):
            take(data)
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
