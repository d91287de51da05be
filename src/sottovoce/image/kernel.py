"""A kernel of Debian's: the bytes that are booted, and its modules in the order in which they can be loaded."""

import lzma
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sottovoce.core.errors import UsageError
from sottovoce.image.debs import PackageError
from sottovoce.image.files import File, Files

__all__ = ["Kernel", "Module"]

_IMAGE: Final = re.compile(r"boot/vmlinuz-([0-9A-Za-z.+~-]+)")
_MODULE: Final = re.compile(r"usr/lib/modules/[^/]+/kernel/(?:.*/)?([^/]+)\.ko\.xz")
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
            PackageError: there is none in it, or more than one.
        """
        images = [(found[1], file) for path, file in files.items() if (found := _IMAGE.fullmatch(path))]
        if len(images) != 1:
            raise PackageError("the package does not hold one kernel")
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
