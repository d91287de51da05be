"""A kernel of Debian's: the bytes that are booted, and its modules in the order in which they can be loaded."""

import lzma
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sottovoce.core.errors import UsageError
from sottovoce.image.debs import PackageError
from sottovoce.image.files import File, Files

__all__ = ["DEMANDED", "Kernel", "Module"]

DEMANDED: Final = (
    # The guest of SEV-SNP, and how it asks for reports.
    "AMD_MEM_ENCRYPT", "SEV_GUEST", "TSM_REPORTS", "UNACCEPTED_MEMORY",
    # What the image's way of doing things stands on.
    "BLK_DEV_DM", "DM_VERITY", "MODULE_SIG", "SECCOMP_FILTER", "SECURITY_LANDLOCK", "SECURITY_LOCKDOWN_LSM", "SECURITY_LOCKDOWN_LSM_EARLY", "SECURITY_YAMA", "VIRTIO_VSOCKETS",
    # Memory that is new is empty, as the command line has it for memory that is freed.
    "INIT_ON_ALLOC_DEFAULT_ON",
    # What keeps a fault in the kernel from being of use.
    "FORTIFY_SOURCE", "HARDENED_USERCOPY", "LEGACY_VSYSCALL_NONE", "RANDOMIZE_BASE", "RANDOMIZE_KSTACK_OFFSET_DEFAULT", "RANDOMIZE_MEMORY", "SLAB_FREELIST_HARDENED", "SLAB_FREELIST_RANDOM",
    "STACKPROTECTOR_STRONG", "STRICT_DEVMEM", "STRICT_KERNEL_RWX", "STRICT_MODULE_RWX", "VMAP_STACK",
    # Processors that guess across a border.
    "CPU_MITIGATIONS", "MITIGATION_IBPB_ENTRY", "MITIGATION_RETPOLINE", "MITIGATION_SPECTRE_BHI", "MITIGATION_SRSO", "MITIGATION_UNRET_ENTRY", "MITIGATION_VMSCAPE",
    # Random numbers where no host gives any.
    "CRYPTO_JITTERENTROPY",
)  # fmt: skip
"""Options that a kernel must have been built with (CONFIG_…), in it or as modules."""

_IMAGE: Final = re.compile(r"boot/vmlinuz-([0-9A-Za-z.+~-]+)")
_MODULE: Final = re.compile(r"usr/lib/modules/[^/]+/kernel/(?:.*/)?([^/]+)\.ko\.xz")
_OPTION: Final = re.compile(r"CONFIG_([A-Z0-9_]+)=[ym]")
_BUILT_IN: Final = re.compile(r"usr/lib/modules/[^/]+/modules\.builtin")
_NEEDS: Final = re.compile(rb"\0depends=([^\0]*)\0")
_LARGEST: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Module:
    """A module, unpacked: the init process hands it to the kernel as it is. Its signature by Debian's key is at its end."""

    name: str
    content: bytes = field(repr=False)

    @property
    def needs(self) -> tuple[str, ...]:
        """The modules that must be there before it."""
        found = _NEEDS.search(self.content)
        return (
            tuple(_plain(one) for one in found[1].decode("ascii", "replace").split(",") if one)
            if found
            else ()
        )


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel: its release ("6.12.1-cloud"), what is booted, its modules by name, and those that are part of it."""

    release: str
    image: bytes = field(repr=False)
    modules: dict[str, File] = field(repr=False)
    built_in: frozenset[str] = field(repr=False)

    @classmethod
    def of(cls, files: Files) -> "Kernel":
        """The kernel of a package.

        Raises:
            PackageError: there is none in it, or more than one; or it lacks something that an image demands.
        """
        images = [(found[1], file) for path, file in files.items() if (found := _IMAGE.fullmatch(path))]
        if len(images) != 1:
            raise PackageError("the package does not hold one kernel")
        _demand(files, images[0][0])
        modules = {
            _plain(found[1]): file for path, file in files.items() if (found := _MODULE.fullmatch(path))
        }
        lines = [
            line
            for path, file in files.items()
            if _BUILT_IN.fullmatch(path)
            for line in file.content.decode("ascii", "replace").split()
        ]
        built_in = frozenset(_plain(line.rpartition("/")[2].removesuffix(".ko")) for line in lines)
        return cls(images[0][0], images[0][1].content, modules, built_in)

    def load(self, names: Sequence[str]) -> tuple[Module, ...]:
        """The modules `names` and those that they need, each after what it needs; what is built in needs no loading.

        Raises:
            UsageError: the kernel has no such module, or two of them need each other.
        """
        loaded: dict[str, Module] = {}
        for name in names:
            self._add(_plain(name), loaded, ())
        return tuple(loaded.values())

    def _add(self, name: str, loaded: dict[str, Module], above: tuple[str, ...]) -> None:
        if name in loaded or name in self.built_in:
            return
        if name not in self.modules:
            raise UsageError(f"this kernel has no module {name}")
        if name in above:
            raise UsageError(f"the module {name} needs itself")
        module = Module(name, _unpacked(self.modules[name].content))
        for needed in module.needs:
            self._add(needed, loaded, (*above, name))
        loaded[name] = module


def _demand(files: Files, release: str) -> None:
    config = files.get(f"boot/config-{release}")
    lines = config.content.decode("ascii", "replace").splitlines() if config else []
    found = {option[1] for line in lines if (option := _OPTION.fullmatch(line))}
    if missing := [option for option in DEMANDED if option not in found]:
        raise PackageError(f"the kernel is built without {', '.join(missing)}")


def _plain(name: str) -> str:
    """A module's name as the kernel has it."""
    return name.replace("-", "_")


def _unpacked(content: bytes) -> bytes:
    opener = lzma.LZMADecompressor()
    try:
        found = opener.decompress(content, _LARGEST)
    except lzma.LZMAError:
        found = b""
    if not found or not opener.eof:
        raise PackageError("a module of the kernel cannot be unpacked")
    return found
