"""An image as one program of UEFI's, and the registers that a TPM has then: by other programs' words, where they are installed. A TPM's own are in `tests/image/test_registers.py`."""

import hashlib
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from image_kit import stub
from sottovoce.image.build import Image, build
from sottovoce.image.debs import PackageError
from sottovoce.image.uki import authenticode, registers, sections, unified
from unit.image.test_build import materials

MEASURE = Path("/usr/lib/systemd/systemd-measure")


def image() -> Image:
    return build(materials(), b'{"role":"guard"}')


def parts(one: Image) -> dict[str, bytes]:
    return {".cmdline": one.command_line.encode(), ".initrd": one.initrd, ".linux": one.kernel}


def pe(name: bytes = b"kernel") -> bytes:
    """A kernel that is a program of UEFI's."""
    return stub() + name


def test_the_stub_with_three_sections_more() -> None:
    one = replace(image(), kernel=pe())
    made = unified(one)
    found = {section.name: section for section in sections(made)}
    assert list(found) == [".text", ".cmdline", ".initrd", ".linux"]
    for name, content in parts(one).items():
        section = found[name]
        assert made[section.place : section.place + section.size] == content
        assert section.place % 0x200 == section.stored % 0x200 == section.address % 0x1000 == 0
        assert section.stored >= section.size == len(content)
    ends = 0x1000
    for section in found.values():
        assert section.address >= ends
        ends = section.address + section.size
    (size,) = struct.unpack_from("<I", made, 0x80 + 24 + 56)
    assert size == -(-ends // 0x1000) * 0x1000
    assert made[0x400:0x600] == one.stub[0x400:]


def test_what_the_stub_measures_is_what_systemd_says(tmp_path: Path) -> None:
    if not MEASURE.exists():
        pytest.skip(f"{MEASURE} is not installed here")
    one = replace(image(), kernel=pe())
    words = []
    for name, content in parts(one).items():
        (tmp_path / name).write_bytes(content)
        words.append(f"--{name[1:]}={tmp_path / name}")
    done = subprocess.run(
        [MEASURE, "calculate", "--phase=:", "--bank=sha256", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"11:sha256={registers(one)[11].hex()}"


def test_a_program_is_known_by_all_but_its_checksum_and_signature() -> None:
    plain = pe()
    changed = bytearray(plain)
    struct.pack_into("<I", changed, 0x80 + 24 + 64, 0x12345678)
    assert authenticode(bytes(changed)) == authenticode(plain)
    signature = b"signature" * 8
    struct.pack_into("<II", changed, 0x80 + 24 + 144, len(plain), len(signature))
    assert authenticode(bytes(changed) + signature) == authenticode(plain)
    for at in (0x41, 0x90, 0x80 + 24 + 20, 0x3F0, 0x500, len(plain) - 1):
        other = bytearray(plain)
        other[at] ^= 1
        assert authenticode(bytes(other)) != authenticode(plain), hex(at)


def test_the_digest_that_signers_sign(tmp_path: Path) -> None:
    tool = shutil.which("osslsigncode")
    if tool is None:
        pytest.skip("osslsigncode is not installed here")
    program, key, signed = (tmp_path / name for name in ("program.efi", "key.pem", "signed.efi"))
    program.write_bytes(unified(replace(image(), kernel=pe())))
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"]
    subprocess.run(
        [*made, "-keyout", str(key), "-out", str(tmp_path / "cert.pem")], check=True, capture_output=True
    )
    words = ["sign", "-h", "sha256", "-certs", str(tmp_path / "cert.pem"), "-key", str(key)]
    subprocess.run([tool, *words, "-in", program, "-out", signed], check=True, capture_output=True)
    said = subprocess.run(
        [tool, "verify", signed], capture_output=True, text=True, check=False
    ).stdout.lower()
    # Of what is signed; the signer fills it up to a multiple of eight first.
    assert authenticode(signed.read_bytes()).hex() in said


def test_registers_by_hand() -> None:
    one = replace(image(), kernel=pe())
    value = bytes(32)
    for event in (
        hashlib.sha256(b"Calling EFI Application from Boot Option").digest(),
        hashlib.sha256(bytes(4)).digest(),
        authenticode(unified(one)),
        authenticode(one.kernel),
    ):
        value = hashlib.sha256(value + event).digest()
    found = registers(one)
    assert found[4] == value
    line = (one.command_line + "\0").encode("utf-16-le")
    first = hashlib.sha256(bytes(32) + hashlib.sha256(line).digest()).digest()
    assert found[9] == hashlib.sha256(first + hashlib.sha256(one.initrd).digest()).digest()
    assert len({*found.values(), *registers(replace(one, initrd=one.initrd + b"x")).values()}) == 6


@pytest.mark.parametrize(
    "data",
    [b"", b"MZ", b"kernel" * 100, stub()[:-1], stub()[:0x90], b"XX" + stub()[2:]],
)
def test_what_is_no_program(data: bytes) -> None:
    with pytest.raises(PackageError):
        sections(data)
    with pytest.raises(PackageError):
        unified(replace(image(), stub=data))


def test_a_stub_without_room() -> None:
    with pytest.raises(PackageError, match="room"):
        unified(replace(image(), stub=stub(0x200)))


OPTIONAL = 0x80 + 24
ALIGNED, SIGNATURE = OPTIONAL + 32, OPTIONAL + 148


def with_number(at: int, number: int) -> bytes:
    """The stub, with another number in its headers."""
    made = bytearray(stub())
    struct.pack_into("<I", made, at, number)
    return bytes(made)


def test_a_stub_with_odd_numbers() -> None:
    (size,) = struct.unpack_from("<H", stub(), 0x80 + 20)
    for odd in (
        with_number(ALIGNED, 0),
        with_number(ALIGNED, 0xFFFF_FFFF),
        # The first section's address.
        with_number(OPTIONAL + size + 12, 0xFFFF_F000),
        with_number(SIGNATURE, 0xFFFF_FFF0),
    ):
        with pytest.raises(PackageError):
            registers(replace(image(), stub=odd, kernel=pe()))
    bare = bytearray(stub())
    struct.pack_into("<H", bare, 0x80 + 6, 0)
    assert len(sections(unified(replace(image(), stub=bytes(bare))))) == 3
