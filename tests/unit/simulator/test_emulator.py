"""The emulated machine with programs that only play theirs: what the host's side does, without an emulator. The real one: tests/image."""

import contextlib
import os
import socket
import stat
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from image_kit import firmware
from sottovoce.core.errors import ConfigError, UnavailableError
from sottovoce.image.firmware import Firmware
from sottovoce.image.launch import PROCESSORS, Booted, launch_digest
from sottovoce.simulator import launcher
from sottovoce.simulator.emulator import Emulator, Launch, Programs

LAUNCH = Launch(kernel=b"kernel", initrd=b"initrd", command_line="quiet", firmware=firmware())
# Plays the device: takes connections to the guest, and says back what it hears.
VSOCK = """
    import os, re, signal, socket, sys
    given = dict(re.findall(r"([a-z-]+)=([^,]+)", sys.argv[2]))
    there = socket.socket(socket.AF_UNIX)
    there.bind(given["uds-path"])
    there.listen()
    socket.socket(socket.AF_UNIX).bind(given["socket"])
    while True:
        one, _ = there.accept()
        line = b""
        while not line.endswith(b"\\n"):
            line += one.recv(1)
        if line != b"CONNECT 9000\\n":
            one.close()
            continue
        one.sendall(b"OK 1024\\n")
        while data := one.recv(4096):
            one.sendall(data.upper())
        one.close()
"""
# Plays the machine: asks its host for what a CVM asks for, and writes it on its console.
QEMU = """
    import contextlib, json, socket, sys
    if "--version" in sys.argv:
        print("QEMU emulator version VERSION.0.2")
        sys.exit()
    after = lambda word: sys.argv[sys.argv.index(word) + 1]
    console = open(next(w for w in sys.argv if w.startswith("file,id=console")).split("path=")[1], "w")
    def ask(port, said=b""):
        one = socket.socket(socket.AF_UNIX)
        one.connect(f"vsock_{port}")
        heard = b""
        with contextlib.suppress(OSError):  # the host may have said all, and closed
            one.sendall(said)
            one.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while data := one.recv(4096):
                heard += data
        return heard.decode()
    print("line", after("-append"), file=console)
    print("table", open(next(w for w in sys.argv if w.startswith("loader")).split("file=")[1].split(",")[0], "rb").read().hex(), file=console)
    print("at", next(w for w in sys.argv if w.startswith("loader")).split("addr=")[1].split(",")[0], file=console)
    print("wiring", ask(9001), file=console)
    print("papers", ask(9002, b"please"), file=console)
    print("back end", ask(9100, b"hello"), file=console)
    console.flush()
    control = socket.socket(socket.AF_UNIX)
    control.bind(after("-qmp").split(":")[1].split(",")[0])
    control.listen()
    print("ready", file=console, flush=True)
    while "stay" in after("-append"):
        one, _ = control.accept()
        lines = one.makefile("rw")
        print(json.dumps({"QMP": {}}), file=lines, flush=True)
        for line in lines:
            asked = json.loads(line)
            if asked["execute"] == "pmemsave":
                open(asked["arguments"]["filename"], "w").write(f"memory of {asked['arguments']['size'] >> 20}")
            size = int(after("-m")[:-1]) << 20
            print(json.dumps({"event": "STOP"}), file=lines, flush=True)
            print(json.dumps({"error": {}} if "broken" in after("-append") else {"return": {"base-memory": size}}), file=lines, flush=True)
"""


@pytest.fixture
def programs(tmp_path: Path) -> Callable[..., Path]:
    def make(version: int = 10) -> Path:
        for name, code in (
            ("vhost-device-vsock", VSOCK),
            ("qemu-system-x86_64", QEMU.replace("VERSION", str(version))),
        ):
            path = tmp_path / name
            path.write_text(f"#!{sys.executable}\n{textwrap.dedent(code)}")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return tmp_path

    return make


def emulator(programs: Callable[..., Path], line: str = "quiet", **more: object) -> Emulator:
    launch = Launch(kernel=b"kernel", initrd=b"initrd", command_line=line, firmware=firmware())
    return Emulator(launch, Programs.find([programs()]), **more)  # type: ignore[arg-type]


def echo() -> socket.socket:
    """A back end that says back what it hears."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock:
                    while data := sock.recv(4096):
                        sock.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    return listener


def test_what_the_machine_is_given(programs: Callable[..., Path]) -> None:
    def papers(channel: socket.socket) -> None:
        with channel:
            channel.sendall(b"papers for " + channel.recv(100))

    with (
        echo() as there,
        emulator(programs, papers=papers, back_ends={"guard": there.getsockname()}) as machine,
    ):
        assert machine.wait(60)
        said = dict(line.split(" ", 1) for line in machine.console.splitlines() if " " in line)
    assert said["line"] == "quiet"
    assert said["table"] == Booted.of(b"kernel", b"initrd", "quiet").table().hex()
    assert int(said["at"], 16) == Firmware.parse(firmware()).hashes
    assert said["wiring"] == '{"guard":"vsock:9100"}'
    assert said["papers"] == "papers for please"
    assert said["back"] == "end hello"


def test_connections_to_the_guest(programs: Callable[..., Path]) -> None:
    with echo() as there:
        machine = emulator(programs, "stay", back_ends={"guard": there.getsockname()})
        place = machine._place
        with machine, socket.create_server(("127.0.0.1", 0)) as listener:
            machine.serve(listener)
            for words in (b"hello", b"x" * 100_000):
                with socket.create_connection(listener.getsockname()) as sock:
                    sock.sendall(words)
                    sock.shutdown(socket.SHUT_WR)
                    heard = b""
                    while data := sock.recv(65536):
                        heard += data
                assert heard == words.upper()
            assert not machine.wait(0)
            processes = list(machine._processes)
    assert not place.exists()
    assert all(process.poll() is not None for process in processes)


def test_its_connections_written_down(programs: Callable[..., Path], tmp_path: Path) -> None:
    traffic = tmp_path / "traffic"
    with echo() as there:
        machine = emulator(programs, "stay", back_ends={"guard": there.getsockname()}, traffic=traffic)
        with machine, socket.create_server(("127.0.0.1", 0)) as listener:
            while "ready" not in machine.console:
                assert not machine.wait(0.01)
            machine.serve(listener)
            with socket.create_connection(listener.getsockname()) as sock:
                sock.sendall(b"hello")
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(100):
                    pass
    found = {path.name: path.read_bytes() for path in traffic.iterdir()}
    assert found == {
        "0001-guard-from-cvm": b"hello",
        "0001-guard-to-cvm": b"hello",
        "0002-device-from-cvm": b"HELLO",
        "0002-device-to-cvm": b"hello",
    }


def sparse(path: Path, size: int) -> Path:
    """A file that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_volume_is_its_one_disk_and_says_how_much_memory_it_gets(tmp_path: Path) -> None:
    for size, memory in ((1 << 20, 1024), (256 << 20, 1024), (1100 << 20, 2560)):
        launch = replace(LAUNCH, volume=sparse(tmp_path / "a,b", size))
        assert launch.memory == memory
        words = " ".join(Emulator(launch, Programs(qemu="q", vsock="v"))._words(tmp_path))
        assert f"-m {memory}M" in words
        assert f"readonly=on,file={tmp_path}/a,,b -device virtio-blk-pci," in words
    with pytest.raises(ConfigError, match="larger"):
        _ = replace(LAUNCH, volume=sparse(tmp_path / "large", 4 << 30)).memory
    assert LAUNCH.memory == 512
    assert "virtio-blk" not in " ".join(Emulator(LAUNCH, Programs(qemu="q", vsock="v"))._words(tmp_path))


def test_its_memory(programs: Callable[..., Path], tmp_path: Path) -> None:
    with echo() as there:
        for line in ("stay", "stay broken"):
            with emulator(programs, line, back_ends={"guard": there.getsockname()}) as machine:
                while "ready" not in machine.console:
                    assert not machine.wait(0.01), (machine._place / "qemu-system-x86_64.log").read_text()
                if line == "stay":
                    machine.dump(tmp_path / "dump")
                    assert (tmp_path / "dump").read_text() == "memory of 512"
                    assert stat.S_IMODE((tmp_path / "dump").stat().st_mode) == 0o600
                else:
                    with pytest.raises(UnavailableError):
                        machine.dump(tmp_path / "other")


def test_a_table_of_others_and_more_devices(programs: Callable[..., Path]) -> None:
    other = Booted.of(b"another kernel", b"initrd", "quiet").table()
    launch = Launch(
        kernel=b"kernel", initrd=b"initrd", command_line="quiet", firmware=firmware(), table=other
    )
    with echo() as there, Emulator(launch, Programs.find([programs()]), back_ends={"guard": there.getsockname()}) as machine:  # fmt: skip
        machine.wait(60)
        assert f"table {other.hex()}" in machine.console
    # What is reported is what was launched, whatever table was given.
    processor = PROCESSORS["EPYC-Milan"]
    expected = launch_digest(Firmware.parse(firmware()), launch.booted, processor=processor, count=1)
    assert launch.measurement() == expected


def test_programs_that_are_not_there(
    programs: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path / "nowhere"))
    with pytest.raises(UnavailableError, match="qemu-system-x86_64 is not installed"):
        Programs.find()
    folder = programs(version=7)
    with pytest.raises(UnavailableError, match="older than 10"):
        Programs.find([folder])
    (folder / "vhost-device-vsock").unlink()
    with pytest.raises(UnavailableError, match="vhost-device-vsock is not installed"):
        Programs.find([folder])


def test_a_device_that_does_not_start(programs: Callable[..., Path]) -> None:
    found = Programs.find([programs()])
    (Path(found.vsock)).write_text("#!/bin/false\n")
    machine = Emulator(LAUNCH, found)
    with pytest.raises(UnavailableError, match="did not start"):
        machine.start()
    assert not machine._place.exists()


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Launch.read(tmp_path)


def test_it_is_ready_when_its_cvm_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    passing = launcher._Passing(lambda: said.append("ready"))
    for lines in (b'{"event": "BackendLost"}\n', b'{"event": "Star', b'ted", "role": "guard"}\n'):
        assert said == []
        passing(lines)
    passing(b'{"event": "Started"}\n')
    assert said == ["ready"]
    assert (
        capfd.readouterr().err.count("\n") == 3
    )  # and what it says goes on to whoever reads this process's log
