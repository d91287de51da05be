"""An image as one program, started by a UEFI that knows nothing of it, with a TPM: the registers are those that `image measure` says.

The TPM writes down each command that it gets; what was extended is taken from there. PID 1 refuses this machine, which the image is not for: it has come so far.
"""

import hashlib
import re
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator_kit import PATIENCE, found_programs, made_with
from sottovoce.image.uki import registers, unified
from sottovoce.simulator.configs import encode_settings
from sottovoce.simulator.testing import EvidenceWorld, settings_of

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]
CODE, VARIABLES = Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
EXTEND, SHA256 = 0x182, 0xB
"""TPM2_CC_PCR_Extend, TPM_ALG_SHA256 (TPM 2.0 Library, part 2)."""
SIZES = {0x4: 20, 0xB: 32, 0xC: 48, 0xD: 64}


def commands(log: str) -> Iterator[bytes]:
    """Each command to the TPM."""
    for found in re.finditer(r"SWTPM_IO_Read: length \d+\n((?: [0-9A-F ]+\n)+)", log):
        yield bytes.fromhex(found[1])


def extended(log: str) -> dict[int, bytes]:
    """What the registers hold, as the commands have made it."""
    found: dict[int, bytes] = {}
    for command in commands(log):
        _, _, code = struct.unpack_from(">HII", command)
        if code != EXTEND:
            continue
        register, authorisation = struct.unpack_from(">II", command, 10)
        at = 18 + authorisation
        (count,) = struct.unpack_from(">I", command, at)
        at += 4
        for _ in range(count):
            (kind,) = struct.unpack_from(">H", command, at)
            digest = command[at + 2 : at + 2 + SIZES[kind]]
            at += 2 + SIZES[kind]
            if kind == SHA256:
                found[register] = hashlib.sha256(found.get(register, bytes(32)) + digest).digest()
    return found


def test_a_tpm_measures_what_was_said(tmp_path: Path) -> None:
    programs, tpm = found_programs(), shutil.which("swtpm")
    if tpm is None or not CODE.exists():
        pytest.skip("swtpm or OVMF (Debian's package ovmf) is not installed here")
    image = made_with(encode_settings(settings_of(EvidenceWorld(), "guard"))).image
    place = tmp_path / "disk/EFI/BOOT"
    place.mkdir(parents=True)
    (place / "BOOTX64.EFI").write_bytes(unified(image))
    shutil.copy(VARIABLES, tmp_path / "variables")
    state = f"dir={tmp_path}"
    control, log, console = (tmp_path / name for name in ("control", "log", "console"))
    words = ["--tpmstate", state, "--ctrl", f"type=unixio,path={control}", "--log", f"file={log},level=20"]
    with subprocess.Popen([tpm, "socket", "--tpm2", "--terminate", *words]) as playing:
        until = time.monotonic() + 10
        while not control.exists():
            assert playing.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        machine = [
            *("-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "1024M", "-machine", "q35,smm=off"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-drive", f"if=pflash,format=raw,readonly=on,file={CODE}"),
            *("-drive", f"if=pflash,format=raw,file={tmp_path / 'variables'}"),
            *("-drive", f"if=none,id=disk,format=raw,file=fat:rw:{tmp_path / 'disk'}"),
            *("-device", "virtio-blk-pci,drive=disk,bootindex=0"),
            *("-chardev", f"socket,id=tpm,path={control}", "-tpmdev", "emulator,id=tpm,chardev=tpm"),
            *("-device", "tpm-tis,tpmdev=tpm"),
            *("-chardev", f"file,id=console,path={console}", "-serial", "chardev:console"),
        ]
        subprocess.run([programs.qemu, *machine], check=True, timeout=PATIENCE)
    assert "sottovoce: the kernel's command line is not the image's" in console.read_text("utf-8", "replace")
    found = extended(log.read_text())
    expected = registers(image)
    assert {number: found[number] for number in expected} == expected
