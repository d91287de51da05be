"""What an image has beside its kernel: one interpreter, its library, our packages, and the libraries that these need. No shell, no package manager, nothing else that runs.

Libraries are found as the loader finds them: by the names that each program, extension and library says that it needs (ELF, DT_NEEDED). What nothing needs is left out;
what is needed and not there ends the build.
"""

import io
import posixpath
import stat
from collections.abc import Iterable, Sequence
from typing import Final

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from sottovoce.image.debs import PackageError
from sottovoce.image.files import File, Files, link, program, regular

__all__ = ["FOLDERS", "LOADER", "PYTHON", "SITE", "libraries", "merged", "needed", "userland"]

PYTHON: Final = "usr/bin/python3.11"
"""The one program."""
LIBRARY: Final = "usr/lib/python3.11/"
SITE: Final = "usr/lib/python3/dist-packages/"
"""Where Debian's interpreter looks for packages."""
LOADER: Final = "ld-linux-x86-64.so.2"
FOLDERS: Final = ("usr/lib/x86_64-linux-gnu", "usr/lib64")
"""Where libraries are; all of an image's are in the first."""
_ELF: Final = b"\x7fELF"
_MERGED: Final = ("bin", "sbin", "lib", "lib64")
"""Names in the root that are links to those below `usr`."""
_HOPS: Final = 8
_LEFT_OUT: Final = (
    "__pycache__/", "config-3.11", "ensurepip/", "idlelib/", "lib2to3/", "pydoc_data/", "sqlite3/", "test/", "tkinter/", "turtledemo/", "unittest/", "venv/", "wsgiref/",
    # Extensions whose libraries nothing else needs.
    "lib-dynload/_bz2", "lib-dynload/_crypt.", "lib-dynload/_curses", "lib-dynload/_dbm", "lib-dynload/_gdbm", "lib-dynload/_lzma", "lib-dynload/_sqlite3", "lib-dynload/_tkinter",
    "lib-dynload/_uuid", "lib-dynload/_test", "lib-dynload/_ctypes_test", "lib-dynload/_xx", "lib-dynload/xx", "lib-dynload/nis", "lib-dynload/ossaudiodev", "lib-dynload/readline",
)  # fmt: skip
"""Of the interpreter's library: tests, tools that write packages, and what needs a screen or a database."""


def userland(packages: Sequence[Files], site: Files) -> dict[str, File]:
    """The files of an image: of Debian's `packages` what is needed, and `site` where packages are looked for.

    Raises:
        PackageError: the interpreter, or a library that something needs, is not in the packages.
    """
    whole = merged(packages)
    if PYTHON not in whole:
        raise PackageError("the interpreter is not among the packages")
    found = {PYTHON: program(whole[PYTHON].content)}
    for path, file in whole.items():
        inside = path.removeprefix(LIBRARY)
        if inside != path and stat.S_ISREG(file.mode) and not any(part in inside for part in _LEFT_OUT):
            found[path] = regular(file.content)
    found |= {SITE + path: regular(file.content) for path, file in site.items()}
    found |= libraries(found.values(), whole)
    return found | {name: link(f"usr/{name}") for name in ("bin", "lib", "lib64")}


def needed(content: bytes) -> tuple[str, ...]:
    """The names of the libraries that a program or library needs; nothing for what is neither.

    Raises:
        PackageError: it is damaged.
    """
    if not content.startswith(_ELF):
        return ()
    try:
        return tuple(
            tag.needed  # type: ignore[attr-defined]  # it is set by the tag's kind
            for segment in ELFFile(io.BytesIO(content)).iter_segments()
            if isinstance(segment, DynamicSegment)
            for tag in segment.iter_tags("DT_NEEDED")
        )
    except (ELFError, AttributeError, UnicodeError, ValueError):
        raise PackageError("a program of the image is damaged") from None


def merged(packages: Sequence[Files]) -> dict[str, File]:
    """All files, those of the root's own folders below `usr`, as the system that they are made for has it."""
    found: dict[str, File] = {}
    for files in packages:
        for path, file in files.items():
            first, slash, rest = path.partition("/")
            found[f"usr/{first}{slash}{rest}" if first in _MERGED else path] = file
    return found


def libraries(programs: Iterable[File], whole: Files) -> dict[str, File]:
    """What `programs` need, and what that needs in turn, each under the name that it is asked for; and the loader.

    Raises:
        PackageError: something of it is not in `whole`, or damaged.
    """
    found: dict[str, File] = {}
    asked = [name for one in programs for name in needed(one.content)]
    while asked:
        name = asked.pop()
        path = f"usr/lib64/{name}" if name == LOADER else f"{FOLDERS[0]}/{name}"
        if path not in found:
            content = _library(name, whole)
            found[path] = program(content)
            asked += needed(content)
    # The kernel looks for it, by a name that each program has in it.
    return found | {f"usr/lib64/{LOADER}": program(_library(LOADER, whole))}


def _library(name: str, whole: Files) -> bytes:
    for folder in FOLDERS:
        path = f"{folder}/{name}"
        for _ in range(_HOPS):
            file = whole.get(path)
            if file is None:
                break
            if stat.S_ISREG(file.mode):
                return file.content
            target = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), file.content.decode()))[
                1:
            ]
            first, slash, rest = target.partition("/")
            path = f"usr/{first}{slash}{rest}" if first in _MERGED else target
    raise PackageError(
        f"nothing among the packages is {name}, which something needs", hint="add the package that has it"
    )
