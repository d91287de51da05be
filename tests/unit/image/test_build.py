"""An image is the same bytes for the same materials, and another one for anything else."""

import json
import lzma
import os
import stat
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import zstandard

from image_kit import cpio_files, elf, firmware, kernel_config, stub
from sottovoce.core.errors import ConfigError, DecodeError, UnavailableError, UsageError
from sottovoce.image.build import COMMAND_LINE, Materials, build, own_code, sbom
from sottovoce.image.files import Files, link, program, regular
from sottovoce.image.firmware import Firmware
from sottovoce.image.kernel import Kernel
from sottovoce.image.launch import Booted
from sottovoce.image.lock import Lock
from sottovoce.image.machines import EMULATED
from sottovoce.image.packages import Package, Source
from sottovoce.image.userland import PYTHON, SITE
from sottovoce.image.wheels import Wheel
from sottovoce.tee.premises import Premises

SOURCE = Path(__file__).parents[3] / "src"
SETTINGS = b'{"role":"guard"}'
DEBIAN: Files = {
    PYTHON: program(elf("libc.so.6")),
    "usr/lib/python3.11/os.py": regular(b"os"),
    "lib/x86_64-linux-gnu/libc.so.6": regular(elf()),
    "lib64/ld-linux-x86-64.so.2": regular(b"loader"),
    "usr/bin/sh": program(b"shell"),
    "etc/passwd": regular(b"root"),
    "usr/sbin/init": link("/lib/systemd/systemd"),
}


def module(needs: str = "") -> bytes:
    return lzma.compress(b"\x7fELF\0depends=" + needs.encode() + b"\0")


def kernel() -> Kernel:
    base = "usr/lib/modules/6.12.1/kernel"
    return Kernel.of(
        {
            "boot/vmlinuz-6.12.1": regular(stub() + b"kernel" * 100),
            "boot/config-6.12.1": kernel_config(),
            f"{base}/vsock.ko.xz": regular(module()),
            f"{base}/vmw_vsock_virtio_transport.ko.xz": regular(module("vsock")),
            f"{base}/tsm.ko.xz": regular(module()),
            f"{base}/sev-guest.ko.xz": regular(module("tsm")),
            f"{base}/virtio_blk.ko.xz": regular(module()),
            f"{base}/dm-mod.ko.xz": regular(module()),
            f"{base}/dm-verity.ko.xz": regular(module("dm-mod")),
        }
    )


def materials(debian: Files = DEBIAN) -> Materials:
    return Materials(
        packages=(debian,),
        site={"h11/__init__.py": regular(b"h11"), "sottovoce/tee/init.py": regular(b"init")},
        kernel=kernel(),
        firmware=Firmware.parse(firmware()),
        stub=stub(),
    )


def test_what_is_in_it() -> None:
    image = build(materials(), SETTINGS)
    found = cpio_files(zstandard.ZstdDecompressor().decompress(image.initrd))
    names = {name for name, (mode, _) in found.items() if stat.S_ISREG(mode)}
    assert names == {
        "init",
        PYTHON,
        "usr/lib/python3.11/os.py",
        SITE + "h11/__init__.py",
        SITE + "sottovoce/tee/init.py",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib64/ld-linux-x86-64.so.2",
        "usr/lib/modules/00-vsock.ko",
        "usr/lib/modules/01-vmw_vsock_virtio_transport.ko",
        "usr/lib/modules/02-tsm.ko",
        "usr/lib/modules/03-sev_guest.ko",
        "etc/sottovoce/premises.json",
        "etc/sottovoce/settings.json",
    }
    # One thing starts, and one thing runs it.
    assert {name for name in names if found[name][0] & 0o111} == {"init", PYTHON, "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib64/ld-linux-x86-64.so.2"}  # fmt: skip
    assert found["etc/sottovoce/settings.json"][1] == SETTINGS
    premises = Premises.parse(found["etc/sottovoce/premises.json"][1])
    # What is measured, and what the kernel then has: the firmware names the RAM disk.
    assert image.command_line == COMMAND_LINE
    assert premises.command_line == f"initrd=initrd {COMMAND_LINE}"
    assert premises.acpi == EMULATED.acpi
    assert found["init"][1].startswith(b"#!/usr/bin/python3.11 -IBS\n")
    compile(found["init"][1], "init", "exec")


def test_the_same_bytes_whoever_builds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = build(materials(), SETTINGS)
    for name, value in (("TZ", "Asia/Tokyo"), ("LANG", "C"), ("USER", "other"), ("SOURCE_DATE_EPOCH", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o077)
    try:
        other = build(materials(dict(reversed(list(DEBIAN.items())))), SETTINGS)
    finally:
        os.umask(before)
    assert one.files() == other.files()
    assert one.digests() == other.digests()


def test_anything_else_is_another_image() -> None:
    good = build(materials(), SETTINGS)
    patched = {**DEBIAN, "usr/lib/python3.11/os.py": regular(b"os ")}
    others = [
        build(materials(patched), SETTINGS),
        build(materials(), SETTINGS + b" "),
        build(materials(), SETTINGS, command_line=COMMAND_LINE.replace("nosmt", "auto")),
        build(materials(), SETTINGS, machine=msgspec.structs.replace(EMULATED, acpi=(("DSDT", "ab" * 32),))),
    ]
    found = {image.digests()["EPYC-Milan/1"] for image in (good, *others)}
    assert len(found) == 5
    assert len(set(good.digests().values())) == len(good.digests()) == 21


def test_what_the_firmware_checks_is_what_is_published() -> None:
    image = build(materials(), SETTINGS)
    files = image.files()
    assert image.booted == Booted.of(files["kernel"], files["initrd"], files["command-line"].decode())


def test_our_own_code_and_no_more_of_it(tmp_path: Path) -> None:
    found = own_code(SOURCE)
    tops = {path.split("/")[1] for path in found}
    assert {"__init__.py", "attest", "core", "tee", "tlog"} <= tops
    assert not {"device", "edge", "thirdparty", "simulator", "app", "cli", "image", "attacks"} & tops
    assert not any("__pycache__" in path for path in found)
    with pytest.raises(ConfigError, match="source is not there"):
        own_code(tmp_path)


def test_a_kernel_without_a_module_that_is_needed() -> None:
    bare = Kernel("6.12.1", b"", {}, frozenset())
    one = materials()
    with pytest.raises(UsageError, match="no module"):
        build(replace(one, kernel=bare), SETTINGS)


def test_the_list_of_what_is_in_it() -> None:
    lock = Lock(
        packages=(
            Package(
                name="libc6", version="2.36-9", suite="bookworm", path="pool/a.deb", sha256="ab" * 32, size=1
            ),
        ),
        wheels=(Wheel(file="typing_extensions-4.16.0-py3-none-any.whl", sha256="cd" * 32),),
    )
    image = build(materials(), SETTINGS)
    found = json.loads(sbom(lock, image))
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert [one["name"] for one in found["components"]] == [
        "libc6",
        "typing-extensions",
        "kernel",
        "initrd",
        "command-line",
        "firmware",
        "stub",
    ]
    assert found["components"][1]["purl"] == "pkg:pypi/typing-extensions@4.16.0"
    assert all(len(one["hashes"][0]["content"]) == 64 for one in found["components"])
    refs = [one["bom-ref"] for one in found["components"]]
    assert len(set(refs)) == len(refs)
    assert sbom(lock, build(materials(), SETTINGS)) == sbom(lock, image)
    source = Source(url="https://files.example/llama_cpp_python-0.3.36.tar.gz", sha256="ef" * 32, size=1)
    with_engine = json.loads(sbom(lock, image, engine=Lock(packages=(), wheels=(), sources=(source,))))
    (added,) = [one for one in with_engine["components"] if one not in found["components"]]
    assert (added["purl"], added["hashes"][0]["content"]) == ("pkg:pypi/llama-cpp-python@0.3.36", "ef" * 32)
    changed = msgspec.structs.replace(lock, wheels=())
    assert sbom(changed, image) != sbom(lock, image)


def test_a_ram_disk_of_somebodys() -> None:
    image = build(materials(), SETTINGS)
    assert "init" in image.contents()
    # It says that it is a petabyte; behind it stands another one; or it is none.
    petabyte = (0xFD2FB528).to_bytes(4, "little") + b"\xe0" + (1 << 50).to_bytes(8, "little") + b"\1\0\0"
    for other in (petabyte, image.initrd * 2, image.initrd[:-1], b""):
        with pytest.raises(DecodeError):
            replace(image, initrd=other).contents()


def test_nothing_is_built_that_would_have_other_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstandard, "ZSTD_VERSION", (1, 5, 5))
    with pytest.raises(UnavailableError, match="other bytes") as found:
        build(materials(), SETTINGS)
    assert "libzstd 1.5.7" in found.value.hint
