"""`sottovoce serve host` beside a real image and the real `vhost-device-vsock`: as on SEV-SNP hardware, but for the processor, whose reports it does not have.

make test-image
"""

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator_kit import PATIENCE, found_programs, made_with
from sottovoce.edge.hostside import PAPERS, Config, HostSide
from sottovoce.simulator.configs import encode_settings
from sottovoce.simulator.emulator import Launch, Programs
from sottovoce.simulator.testing import EvidenceWorld, settings_of

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def programs() -> Programs:
    return found_programs()


@pytest.fixture(scope="module")
def files(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an orchestrator's image, and the table of hashes that SEV-SNP would put into memory."""
    made, folder = (
        made_with(encode_settings(settings_of(EvidenceWorld(), "orchestrator"))),
        tmp_path_factory.mktemp("image"),
    )
    made.write(folder)
    (folder / "table").write_bytes(Launch.read(folder).booted.table())
    (folder / "place").write_text(f"{made.image.firmware.hashes:#x}")
    return folder


@contextlib.contextmanager
def machine(programs: Programs, files: Path, place: Path) -> Iterator["subprocess.Popen[str]"]:
    """The line of docs/operating.md, with an emulated processor; it ends when PID 1 powers it off."""
    vsock = [programs.vsock, "--vm", f"guest-cid=3,socket={place}/vhost,uds-path={place}/vsock"]
    line = (files / "command-line").read_text()
    with subprocess.Popen(vsock, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sockets:
        try:
            while not (place / "vhost").is_socket():
                assert sockets.poll() is None
            with subprocess.Popen(
                [
                    *(programs.qemu, "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "512M"),
                    *("-machine", "pc-q35-10.0,smm=off,vmport=off,memory-backend=memory"),
                    *("-object", "memory-backend-memfd,id=memory,size=512M,share=on"),
                    *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                    *("-bios", files / "firmware", "-kernel", files / "kernel", "-initrd", files / "initrd"),
                    *("-append", line),
                    *(
                        "-device",
                        f"loader,file={files}/table,addr={(files / 'place').read_text()},force-raw=on",
                    ),
                    *("-chardev", f"socket,id=vsock,path={place}/vhost"),
                    *("-device", "vhost-user-vsock-pci,chardev=vsock"),
                    *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
            ) as qemu:
                try:
                    yield qemu
                finally:
                    qemu.kill()
        finally:
            sockets.kill()


@pytest.mark.parametrize(
    ("papers", "says"),
    [
        (True, b"sottovoce: the security processor gives no report\n"),
        (False, b"sottovoce: the host gives no papers\n"),
    ],
)
def test_the_machine_gets_wiring_and_papers_and_its_log_leaves(
    programs: Programs, files: Path, tmp_path: Path, papers: bool, says: bytes
) -> None:
    for name in PAPERS if papers else ():
        (tmp_path / name).write_bytes(b"not looked into before a report")
    config = Config(
        sockets=str(tmp_path / "vsock"),
        papers=str(tmp_path),
        # Nobody is there: a CVM that is told where its back ends are does not ask them before it serves.
        wiring={"predictor": "127.0.0.1:1", "guard": "127.0.0.1:2"},
    )
    log = bytearray()

    async def test() -> str:
        host = HostSide(config, write=log.extend)
        await host.start(socket.create_server(("127.0.0.1", 0)))
        with machine(programs, files, tmp_path) as qemu:
            console, _ = await asyncio.to_thread(qemu.communicate, timeout=PATIENCE)
        await host.stop()
        assert not host.started.is_set()
        return console

    console = asyncio.run(test())
    assert "sottovoce: the CVM has ended (2)" in console
    assert bytes(log) == says
