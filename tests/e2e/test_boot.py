"""A simulated machine starts a CVM for real: measured code, descriptors only, reports over a socket."""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from sottovoce.attest.verdict import VerificationRefused
from sottovoce.core import canonical
from sottovoce.simulator import launcher
from sottovoce.simulator.measure import code_root, measure, measure_code
from sottovoce.simulator.testing import EvidenceWorld, settings_of
from tee_kit import Device, KitCollector

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

_ROLE = """
from sottovoce.tee.roles import Session

async def app(scope, receive, send):
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body.upper()})

class Role:
    name = "orchestrator"
    backends = ()
    def warm(self, settings, artifacts): pass
    def app(self, session): return app

create_role = Role
"""


@dataclass(frozen=True)
class Machine:
    world: EvidenceWorld
    folder: Path

    @property
    def code(self) -> Path:
        return self.folder / "code"

    def start(self) -> "Running":
        listener = socket.create_server(("127.0.0.1", 0))
        read, write = os.pipe()
        command = [sys.executable, "-P", "-m", "sottovoce", "serve", "cvm"]
        command += ["--config", str(self.folder / "cvm.toml"), "--fd", str(listener.fileno())]
        process = subprocess.Popen(
            [*command, "--ready-fd", str(write)],
            pass_fds=(listener.fileno(), write),
            stderr=subprocess.PIPE,
            env={"PYTHONDONTWRITEBYTECODE": "1"},
        )
        os.close(write)
        with listener:
            return Running(process, listener.getsockname(), read)


@dataclass
class Running:
    process: "subprocess.Popen[bytes]"
    address: tuple[str, int]
    ready: int

    def wait_ready(self) -> None:
        assert select.select([self.ready], [], [], 60)[0]
        assert os.read(self.ready, 1) == b"1", self.process.communicate()

    def stop(self) -> bytes:
        self.process.send_signal(signal.SIGTERM)
        _, lines = self.process.communicate(timeout=20)
        os.close(self.ready)
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    world, code = EvidenceWorld(), tmp_path / "code" / "sottovoce"
    for name in ("core", "attest", "tlog", "tee"):
        shutil.copytree(
            code_root() / "sottovoce" / name, code / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(code_root() / "sottovoce" / "__init__.py", code)
    (code / "tee" / "orchestrator.py").write_text(_ROLE)
    settings = canonical.encode(msgspec.to_builtins(settings_of(world, "orchestrator")))
    (tmp_path / "settings.json").write_bytes(settings)
    measured = measure(settings=settings, artifacts={}, code=measure_code(code.parent))
    world.measurements["orchestrator"] = measured.digest
    world.releases["orchestrator"] = world.release("orchestrator")
    world.append(world.releases["orchestrator"].encode())
    world.chips["orchestrator"].save(tmp_path / "chip")
    launcher.write_bundle(tmp_path / "bundle", KitCollector(world, "orchestrator").bundle())
    paths = {"settings": "settings.json", "chip": "chip", "bundle": "bundle", "code": "code"}
    lines = [f'{name} = "{tmp_path / path}"\n' for name, path in paths.items()]
    # This role asks no back end, but its kind has two.
    wiring = '[wiring]\npredictor = "127.0.0.1:9"\nguard = "127.0.0.1:9"\n'
    (tmp_path / "cvm.toml").write_text("".join(lines) + wiring)
    return Machine(world, tmp_path)


@pytest.fixture
def running(machine: Machine) -> Iterator[Running]:
    cvm = machine.start()
    try:
        cvm.wait_ready()
        yield cvm
    finally:
        cvm.stop()


def test_a_measured_cvm_serves_a_verified_session(machine: Machine, running: Running) -> None:
    device = Device(machine.world, running.address, require_backends=())
    verified = device.verify()
    assert verified.platform.measurement == machine.world.measurements["orchestrator"]
    assert device.request("POST", "/", b"hello") == (200, b"HELLO")
    device.close()


def test_it_has_no_environment_and_no_path(running: Running) -> None:
    (cvm,) = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
    assert Path(f"/proc/{cvm}/environ").read_bytes() == b""
    assert Path(f"/proc/{cvm}/cwd").readlink() == Path("/")


def test_the_cvm_ends_with_its_machine(running: Running) -> None:
    (cvm,) = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
    running.process.kill()
    running.process.wait()
    descriptor = None
    try:
        descriptor = os.pidfd_open(int(cvm))
        assert select.select([descriptor], [], [], 10)[0], "the CVM goes on without its machine"
    except ProcessLookupError:
        pass
    finally:
        if descriptor is not None:
            os.close(descriptor)


def test_one_changed_byte_of_code_is_refused_by_the_device(machine: Machine) -> None:
    role = machine.code / "sottovoce" / "tee" / "orchestrator.py"
    role.write_text(role.read_text().replace("upper", "lower"))
    cvm = machine.start()
    try:
        cvm.wait_ready()
        device = Device(machine.world, cvm.address, require_backends=())
        with pytest.raises(VerificationRefused) as refused:
            device.verify()
        assert [check.id for check in refused.value.verdict.failed] == ["measurement"]
        device.close()
    finally:
        cvm.stop()


def test_unknown_settings_stop_the_boot(machine: Machine) -> None:
    settings = machine.folder / "settings.json"
    settings.write_bytes(settings.read_bytes()[:-1] + b',"zzz":1}')
    cvm = machine.start()
    assert cvm.process.wait(60) != 0
    assert b"sottovoce: the settings hold an unknown name" in cvm.stop()
