"""Builds the image of a CVM: kernel, initial RAM disk, command line and firmware, the same bytes for the same source and lock.

    lock ─▶ packages and wheels, by their digests ─▶ files ─▶ archive ─▶ Zstandard
    source ─▶ our own packages                    ─┤
    engine's lock ─▶ its native code, compiled    ─┘

A model is not in it: it is in a volume, whose root the image holds. Nothing of this machine gets into it: no time, no name of a user, no order of a folder.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import zstandard

from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError, DecodeError, UnavailableError
from sottovoce.image.bytecode import compiled
from sottovoce.image.debs import PackageError, unpack
from sottovoce.image.engine import compile_engine
from sottovoce.image.files import File, Files, archive, directory, program, read_archive, regular
from sottovoce.image.firmware import Firmware
from sottovoce.image.kernel import Kernel
from sottovoce.image.launch import PROCESSORS, Booted, launch_digest
from sottovoce.image.lock import Lock
from sottovoce.image.machines import Machine, emulated
from sottovoce.image.packages import fetch
from sottovoce.image.userland import SITE, userland
from sottovoce.image.wheels import fetch_wheels, unpack_wheel
from sottovoce.tee.init import ETC, MODULES
from sottovoce.tee.volume import Volume

__all__ = [
    "COMMAND_LINE",
    "COUNTS",
    "Image",
    "Materials",
    "build",
    "materials",
    "own_code",
    "sbom",
]

COMMAND_LINE: Final = (
    "rdinit=/init panic=-1 quiet init_on_free=1 lockdown=confidentiality module.sig_enforce=1 "
    "mitigations=auto,nosmt spectre_v2=eibrs,retpoline spectre_v2_user=on"
)
"""Measured. Freed memory is zeroed; nobody reads the kernel's memory; modules are Debian's; processors do not guess across a border."""
COUNTS: Final = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of processors whose digests a release publishes."""
_MODULES: Final = ("vmw_vsock_virtio_transport", "tsm", "sev-guest")
_DISK_MODULES: Final = ("virtio_blk", "dm-verity")
_PACKAGES: Final = ("attest", "core", "tee", "tlog")
"""The packages of ours that a CVM holds."""
_SOURCES: Final = (".md", ".pem", ".py")
"""What they are made of; an editor's files and links are none of them."""
_FIRMWARE: Final = "usr/share/ovmf/OVMF.amdsev.fd"
STUB: Final = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
_LEVEL: Final = 9
_ZSTANDARD: Final = (1, 5, 7)
"""The version of the library that compresses: another one gives other bytes, and so another launch digest."""
_LARGEST: Final = 2 * 1024 * 1024 * 1024
_INIT: Final = f"""#!/usr/bin/python3.11 -IBS
import sys
sys.path.append("/{SITE.rstrip("/")}")
from sottovoce.tee.init import Machine, run
run(Machine())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Materials:
    """What an image is made of: unpacked packages, wheels' files, and our own code."""

    packages: tuple[Files, ...] = field(repr=False)
    site: Files = field(repr=False)
    kernel: Kernel
    firmware: Firmware
    stub: bytes = field(repr=False)
    """What starts the kernel where UEFI starts one program (`image/uki.py`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image: what is launched and measured."""

    kernel: bytes = field(repr=False)
    initrd: bytes = field(repr=False)
    command_line: str
    firmware: Firmware
    stub: bytes = field(repr=False)
    volume: Volume | None = None
    """What the image says of the volume with its model, which is beside it."""

    @property
    def booted(self) -> Booted:
        """The digests that the firmware checks."""
        return Booted.of(self.kernel, self.initrd, self.command_line)

    def contents(self) -> dict[str, File]:
        """What is in the initial RAM disk.

        Raises:
            DecodeError: it cannot be read, or is larger than an image's.
        """
        try:
            if zstandard.frame_content_size(self.initrd) > _LARGEST:
                raise DecodeError("the initial RAM disk is larger than an image's")
            # The kernel would unpack what follows, too.
            opened = zstandard.ZstdDecompressor().decompress(
                self.initrd, max_output_size=_LARGEST, allow_extra_data=False
            )
        except zstandard.ZstdError:
            raise DecodeError("the initial RAM disk cannot be unpacked") from None
        return read_archive(opened)

    def digests(self) -> dict[str, str]:
        """Launch digests in hex, by type and number of processors ("EPYC-Milan/4")."""
        return {
            f"{name}/{count}": launch_digest(
                self.firmware, self.booted, processor=processor, count=count
            ).hex()
            for name, processor in PROCESSORS.items()
            for count in COUNTS
        }

    def files(self) -> dict[str, bytes]:
        """What is published, by file name."""
        return {
            "kernel": self.kernel,
            "initrd": self.initrd,
            "command-line": self.command_line.encode(),
            "firmware": self.firmware.data,
            "stub": self.stub,
        }


def materials(lock: Lock, cache: Path, source: Path, *, engine: Lock | None = None) -> Materials:
    """What the lock names, from `cache` or fetched, our own code below `source`, and the embedded engine of `engine`, if the image has one.

    Raises:
        StaleLockError: something of a lock is not to be had any more.
        PackageError: a package is not what it must be.
        ConfigError: our own code is not below `source`.
        UnavailableError: the engine cannot be compiled here.
    """
    unpacked = [unpack(fetch(one, cache)) for one in lock.packages]
    kernels = [
        files
        for one, files in zip(lock.packages, unpacked, strict=True)
        if one.name.startswith("linux-image-")
    ]
    firmware, stubs = (
        [files[path].content for files in unpacked if path in files] for path in (_FIRMWARE, STUB)
    )
    if (len(kernels), len(firmware), len(stubs)) != (1, 1, 1):
        raise PackageError("the lock does not name one kernel, one firmware and one stub")
    site: dict[str, File] = {}
    for data in fetch_wheels(lock.wheels, cache):
        site |= unpack_wheel(data)
    others: list[Files] = [files for files in unpacked if files is not kernels[0] and _FIRMWARE not in files]
    if engine is not None:
        made = compile_engine(engine, cache)
        site |= made.site
        others.append(made.libraries)
    return Materials(
        packages=tuple(others),
        site=site | own_code(source),
        kernel=Kernel.of(kernels[0]),
        firmware=Firmware.parse(firmware[0]),
        stub=stubs[0],
    )


def own_code(source: Path) -> dict[str, File]:
    """Our own packages, as far as a CVM has them, from the folder that holds `sottovoce`.

    Raises:
        ConfigError: they are not there.
    """
    top = source / "sottovoce"
    found = {
        path.relative_to(source).as_posix(): regular(path.read_bytes())
        for place in (top, *(top / name for name in _PACKAGES))
        for path in (place.glob("*") if place == top else place.rglob("*"))
        if path.suffix in _SOURCES and path.is_file() and not path.is_symlink()
    }
    if "sottovoce/tee/init.py" not in found:
        raise ConfigError(
            "the project's source is not there", hint="give the folder that holds the package `sottovoce`"
        )
    return found


def build(
    made_of: Materials,
    settings: bytes,
    *,
    command_line: str = COMMAND_LINE,
    machine: Machine | None = None,
    volume: Volume | None = None,
) -> Image:
    """The image of one CVM. `settings` is its measured settings document; `machine` is the one that it is for, an emulated one if None; `volume` is that with its model, if it has one.

    Raises:
        PackageError, UsageError: the materials do not make an image.
        UnavailableError: what compresses it here would give other bytes.
    """
    if zstandard.ZSTD_VERSION != _ZSTANDARD:
        raise UnavailableError(
            "the Python package zstandard here is of another version, and would give other bytes",
            party="builder",
            hint=f"install the one with libzstd {'.'.join(map(str, _ZSTANDARD))}: zstandard 0.25.0",
        )
    premises = (machine or emulated(volume)).premises(command_line)
    found = compiled(userland(made_of.packages, made_of.site))
    for number, module in enumerate(made_of.kernel.load(_MODULES + (_DISK_MODULES if volume else ()))):
        found[f"{MODULES}/{number:02}-{module.name}.ko"] = regular(module.content)
    found |= {name: directory(0o555) for name in ("dev", "proc", "sys")}
    found |= {
        "init": program(_INIT.encode()),
        f"{ETC}/premises.json": regular(msgspec.json.encode(premises)),
        f"{ETC}/settings.json": regular(settings),
    }
    if volume is not None:
        found[f"{ETC}/volume.json"] = regular(msgspec.json.encode(volume))
    packed = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(archive(found))
    return Image(
        kernel=made_of.kernel.image,
        initrd=packed,
        command_line=command_line,
        firmware=made_of.firmware,
        stub=made_of.stub,
        volume=volume,
    )


def sbom(lock: Lock, image: Image, *, engine: Lock | None = None) -> bytes:
    """What is in it, as CycloneDX 1.6 (JSON), without a time or a serial number: the same for the same image."""
    components: list[dict[str, Any]] = [
        {
            "type": "library",
            "bom-ref": f"pkg:deb/debian/{one.name}@{one.version}",
            "name": one.name,
            "version": one.version,
            "purl": f"pkg:deb/debian/{one.name}@{one.version}?arch=amd64&distro={one.suite}",
            "hashes": [{"alg": "SHA-256", "content": one.sha256}],
        }
        for one in lock.packages
    ]
    for wheel in lock.wheels:
        name, version = wheel.file.split("-")[:2]
        plain = name.lower().replace("_", "-")
        components.append(
            {
                "type": "library",
                "bom-ref": f"pkg:pypi/{plain}@{version}",
                "name": plain,
                "version": version,
                "purl": f"pkg:pypi/{plain}@{version}",
                "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
            }
        )
    for source in engine.sources if engine else ():
        name, _, version = source.url.rpartition("/")[2].removesuffix(".tar.gz").rpartition("-")
        plain = name.lower().replace("_", "-")
        components.append(
            {
                "type": "library",
                "bom-ref": f"pkg:pypi/{plain}@{version}?checksum=sha256:{source.sha256}",
                "name": plain,
                "version": version,
                "purl": f"pkg:pypi/{plain}@{version}",
                "hashes": [{"alg": "SHA-256", "content": source.sha256}],
            }
        )
    if image.volume is not None:
        components.append(
            {
                "type": "machine-learning-model",
                "bom-ref": image.volume.name,
                "name": image.volume.name,
                "properties": [{"name": "sottovoce:verity-root", "value": image.volume.root}],
            }
        )
    files = [
        {
            "type": "file",
            "bom-ref": name,
            "name": name,
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}],
        }
        for name, content in image.files().items()
    ]
    return canonical.encode(
        {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components + files}
    )
