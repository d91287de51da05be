"""PID 1, with a kernel that writes down what it is asked for: in order, and powered off whatever happens."""

import contextlib
import errno
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from sottovoce.tee import init
from sottovoce.tee.init import LISTEN, LOG, PAPERS, WIRING, run
from sottovoce.tee.premises import Premises
from sottovoce.tee.volume import Volume

PREMISES = Premises(command_line="rdinit=/init", devices=(("virtio", "1af4", "0013"),), acpi=())
SETTINGS, TOLD = b'{"settings":1}', b'{"predictor":"2:9000"}'


class Kernel:
    """Does as a kernel does, as far as PID 1 can see; `breaks` is what it cannot do."""

    def __init__(self, root: Path, breaks: str = "") -> None:
        self.root, self.breaks = root, breaks
        self.asked: list[str] = []
        self.given: dict[str, bytes] = {}
        self.code = errno.EPERM
        self.wiring = TOLD
        self.logged = b""
        self._log: socket.socket | None = None

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what == self.breaks:
            raise OSError(self.code, "no")

    def mount(self, kind: str, target: str, flags: int, data: str) -> None:
        self._ask(f"mount {kind}" + " read-only" * bool(flags & init._READ_ONLY))
        assert flags & (init._NO_SUID | init._NO_EXEC) == init._NO_SUID | init._NO_EXEC
        assert target.startswith("/")

    def load(self, module: bytes) -> None:
        self._ask(f"load {module.decode()}")
        # What a module finds, it shows.
        if module == b"virtio_net":
            self.device("1af4", "0001")

    def device(self, vendor: str, device: str) -> None:
        folder = self.root / "sys/bus/virtio/devices" / device
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"0x{vendor}\n")
        (folder / "device").write_text(f"0x{device}\n")

    def volume(self, volume: Volume) -> int:
        self._ask(f"volume {volume.root[:4]}")
        return os.open(self.root / "disk", os.O_RDONLY)

    def listen(self, port: int) -> socket.socket:
        self._ask(f"listen {port}")
        return socket.socket()

    def connect(self, port: int) -> socket.socket:
        self._ask(f"connect {port}")
        ours, theirs = socket.socketpair()
        if port == LOG:
            self._log = theirs
            return ours
        with theirs:
            if port == WIRING:
                theirs.sendall(self.wiring)
        return ours

    def power_off(self) -> None:
        self.asked.append("power off")
        if self._log is not None:
            with self._log, contextlib.suppress(BlockingIOError):
                self.logged = self._log.recv(100, socket.MSG_DONTWAIT)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/sottovoce").mkdir(parents=True)
    (tmp_path / "etc/sottovoce/premises.json").write_bytes(msgspec.json.encode(PREMISES))
    (tmp_path / "etc/sottovoce/settings.json").write_bytes(SETTINGS)
    (tmp_path / "usr/lib/modules").mkdir(parents=True)
    for number, name in enumerate(("vsock", "tsm", "sev_guest")):
        (tmp_path / f"usr/lib/modules/{number}-{name}.ko").write_text(name)
    (tmp_path / "proc/sys").mkdir(parents=True)
    (tmp_path / "proc/cmdline").write_text("rdinit=/init\n")
    for name, _ in init._CLOSING:
        path = tmp_path / "proc/sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("other\n")
    (tmp_path / "sys").mkdir()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/null").touch()
    Kernel(tmp_path).device("1af4", "0013")
    for bus in ("pci", "virtio"):
        (tmp_path / "sys/bus" / bus).mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/bus" / bus / "drivers_autoprobe").write_text("1\n")
    return tmp_path


def started(words: Sequence[str]) -> int:
    """In the child: what `boot` gets."""
    given = {name: int(fd) for name, fd in zip(words[::2], words[1::2], strict=True)}
    assert set(given) == {"--settings-fd", "--wiring-fd", "--listen-fd", "--processor-fd"}
    right = os.read(given["--settings-fd"], 100) == SETTINGS and os.read(given["--wiring-fd"], 100) == TOLD
    return 7 if right else 8


def said(kernel: Kernel, start: Callable[[Sequence[str]], int] = started) -> str:
    run(kernel, root=kernel.root, start=start)
    return (kernel.root / init.CONSOLE).read_text()


def test_all_of_it_in_order(root: Path) -> None:
    kernel = Kernel(root)
    assert said(kernel) == "sottovoce: the CVM has ended (7)\n"
    assert kernel.asked == [
        "mount proc",
        "mount sysfs",
        "mount devtmpfs",
        "load vsock",
        "load tsm",
        "load sev_guest",
        "mount configfs",
        "mount sysfs read-only",
        f"listen {LISTEN}",
        f"connect {WIRING}",
        f"connect {PAPERS}",
        f"connect {LOG}",
        "power off",
    ]
    for name, value in init._CLOSING:
        assert (root / "proc/sys" / name).read_text() == value
    for bus in ("pci", "virtio"):
        assert (root / f"sys/bus/{bus}/drivers_autoprobe").read_text() == "0"


def test_a_bus_that_goes_on_taking_devices_stops_the_boot(root: Path) -> None:
    (root / "sys/bus/pci/drivers_autoprobe").unlink()
    (root / "sys/bus/pci/drivers_autoprobe").mkdir()
    kernel = Kernel(root)
    assert "devices that come later cannot be kept out (pci)" in said(kernel)
    assert f"listen {LISTEN}" not in kernel.asked


def reads_the_model(words: Sequence[str]) -> int:
    given = dict(zip(words[::2], words[1::2], strict=True))
    name, _, fd = given["--artifact"].rpartition("=")
    return 5 if (name, os.read(int(fd), 100)) == ("small", b"weights") else 6


def with_volume(root: Path) -> Kernel:
    described = Volume(name="small", size=7, root="ab" * 32)
    (root / "etc/sottovoce/volume.json").write_bytes(msgspec.json.encode(described))
    (root / "disk").write_bytes(b"weights")
    return Kernel(root)


def test_the_models_volume_is_an_artifact(root: Path) -> None:
    kernel = with_volume(root)
    assert said(kernel, reads_the_model) == "sottovoce: the CVM has ended (5)\n"
    assert kernel.asked.index("volume abab") < kernel.asked.index(f"listen {LISTEN}")


def test_without_its_volume_nothing_listens(root: Path) -> None:
    kernel = with_volume(root)
    kernel.breaks = "volume abab"
    assert "the volume with the model is missing or too small" in said(kernel)
    assert f"listen {LISTEN}" not in kernel.asked
    (root / "etc/sottovoce/volume.json").write_bytes(b"{}")
    assert "what the image says of its volume is not of its form" in said(Kernel(root))


def writes(words: Sequence[str]) -> int:
    os.write(2, b"a line\n" * 100_000)
    return 3


def test_the_log_leaves_and_a_host_that_does_not_read_stops_nobody(root: Path) -> None:
    kernel = Kernel(root)
    assert "ended (3)" in said(kernel, writes)
    assert kernel.logged == (b"a line\n" * 15)[:100]


def test_without_a_console_nothing_is_taken_for_the_log(root: Path) -> None:
    kernel = Kernel(root)
    kept = [os.dup(number) for number in range(3)]
    os.closerange(0, 3)
    try:
        told = said(kernel)
        found = [Path(f"/proc/self/fd/{number}").readlink() for number in range(3)]
    finally:
        for number, copy in enumerate(kept):
            os.dup2(copy, number)
            os.close(copy)
    assert "ended (7)" in told
    assert found == [root / "dev/null"] * 3


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        ("mount proc", "proc cannot be mounted"),
        ("mount configfs", "configfs cannot be mounted"),
        ("load tsm", "module 1-tsm cannot be loaded"),
        (f"listen {LISTEN}", "sockets cannot be had"),
        (f"connect {WIRING}", "where back ends are"),
        (f"connect {PAPERS}", "has no papers"),
        (f"connect {LOG}", "takes no log"),
    ],
)
def test_whatever_cannot_be_done_ends_the_machine(root: Path, breaks: str, says: str) -> None:
    kernel = Kernel(root, breaks)
    assert says in said(kernel, never)
    assert kernel.asked[-2:] == [breaks, "power off"]


def never(words: Sequence[str]) -> int:
    raise AssertionError(words)


def test_a_driver_without_its_device_is_no_failure(root: Path) -> None:
    kernel = Kernel(root, "load sev_guest")
    kernel.code = errno.ENODEV
    assert "ended (7)" in said(kernel)


def test_what_a_module_finds_is_looked_at_too(root: Path) -> None:
    (root / "usr/lib/modules/3-virtio_net.ko").write_text("virtio_net")
    kernel = Kernel(root)
    assert "unexpected device: virtio 1af4:0001" in said(kernel, never)
    assert kernel.asked[-1] == "power off"
    assert f"listen {LISTEN}" not in kernel.asked


def test_before_any_module_too(root: Path) -> None:
    (root / "proc/cmdline").write_text("rdinit=/init init=/bin/sh\n")
    kernel = Kernel(root)
    assert "command line" in said(kernel, never)
    assert "load vsock" not in kernel.asked


@pytest.mark.parametrize("name", ["premises.json", "settings.json"])
def test_an_image_without_its_documents(root: Path, name: str) -> None:
    (root / "etc/sottovoce" / name).unlink()
    assert f"the image has no {name}" in said(Kernel(root), never)


@pytest.mark.parametrize("name", [name for name, _ in init._CLOSING])
def test_a_kernel_that_cannot_be_closed(root: Path, name: str) -> None:
    (root / "proc/sys" / name).unlink()
    if name in init._MAY_LACK:
        assert "ended (7)" in said(Kernel(root))
        return
    (root / "proc/sys" / name).mkdir()
    kernel = Kernel(root)
    assert f"cannot be closed ({name})" in said(kernel, never)
    assert kernel.asked[-1] == "power off"


def test_a_kernel_in_which_ptrace_cannot_be_closed(root: Path) -> None:
    shutil.rmtree(root / "proc/sys/kernel/yama")
    assert "cannot be closed (kernel/yama/ptrace_scope)" in said(Kernel(root), never)


def test_a_kernel_that_only_says_so(root: Path) -> None:
    """Written, and not changed."""
    path = root / "proc/sys/kernel/modules_disabled"
    path.unlink()
    path.symlink_to("/dev/null")
    assert "cannot be closed (kernel/modules_disabled)" in said(Kernel(root), never)


def test_a_host_that_says_too_much(root: Path) -> None:
    kernel = Kernel(root)
    kernel.wiring = bytes(65 * 1024)
    assert "more than it may" in said(kernel, never)


def test_a_fault_tells_nothing_of_its_words(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("the host's own words")

    monkeypatch.setattr(init, "require", broken)
    kernel = Kernel(root)
    assert said(kernel, never) == "sottovoce: PID 1 failed (ValueError)\n"
    assert kernel.asked[-1] == "power off"


def test_a_child_that_fails_or_is_killed(root: Path) -> None:
    assert "ended (1)" in said(Kernel(root), never)
    assert "ended (-9)" in said(Kernel(root), killed)


def killed(_: Sequence[str]) -> int:
    os.kill(os.getpid(), 9)
    return 0


def test_those_whose_parents_have_ended_are_buried(root: Path) -> None:
    orphan = os.fork()
    if orphan == 0:
        os._exit(0)
    assert "ended (7)" in said(Kernel(root))


def test_no_console_is_no_reason_to_go_on(root: Path) -> None:
    (root / init.CONSOLE).mkdir()
    kernel = Kernel(root)
    run(kernel, root=root, start=started)
    assert kernel.asked[-1] == "power off"
