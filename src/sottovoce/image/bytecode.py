"""Modules of an image, compiled ahead by the image's own interpreter, so that a CVM does not do it at each start: under emulation that takes minutes.

The same source gives the same bytecode: it is written in version 2 of Python's format (`marshal`), which has no references that depend on how often an object was used, and
without the time of a file. The source is left out of the image; whoever has the project and the wheels has it, and `sottovoce image rebuild` compares what comes of it.
"""

import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from sottovoce.core.errors import UnavailableError
from sottovoce.image.debs import PackageError
from sottovoce.image.files import File, Files, regular
from sottovoce.image.userland import FOLDERS, LOADER, PYTHON

__all__ = ["compiled"]

_SECONDS: Final = 600
_SCRIPT: Final = """
import importlib.util, marshal, sys
root = sys.argv[1]
for path in sys.stdin.read().split("\\0"):
    with open(f"{root}/{path}", "rb") as file:
        source = file.read()
    try:
        code = compile(source, f"/{path}", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        continue  # a template, or a module of another version
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
    with open(f"{root}/{path}c", "wb") as file:
        file.write(head + marshal.dumps(code, 2))
"""
"""Flag 1: by the source's hash, which is not looked at (PEP 552)."""


def compiled(files: Files) -> dict[str, File]:
    """The files of a user land, in it the modules (`.py`) replaced by their bytecode (`.pyc`).

    Raises:
        UnavailableError: the image's interpreter does not run on this machine.
        PackageError: it does not do what it must.
    """
    modules = [path for path, file in files.items() if path.endswith(".py") and stat.S_ISREG(file.mode)]
    found = dict(files)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for path, file in files.items():
            if stat.S_ISREG(file.mode):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(file.content)
                (root / path).chmod(0o700)
        _run(root, modules)
        for path in modules:
            made = root / f"{path}c"
            if made.exists():
                del found[path]
                found[f"{path}c"] = regular(made.read_bytes())
    return found


def _run(root: Path, modules: list[str]) -> None:
    loader, libraries = root / "usr/lib64" / LOADER, root / FOLDERS[0]
    # Not from its environment, no folder of a user's, nothing written.
    command = [str(loader), "--library-path", str(libraries), str(root / PYTHON), "-s", "-S", "-P", "-B"]
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter of the locked packages
            [*command, "-c", _SCRIPT, str(root)],
            input="\0".join(modules).encode(),
            capture_output=True,
            env={"PYTHONHASHSEED": "0"},
            timeout=_SECONDS,
            check=False,
        )
    except OSError:
        raise UnavailableError(
            "the image's interpreter does not run here",
            party="builder",
            hint="build on a machine with an x86-64 processor",
        ) from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(
            "compiling the image's modules does not come to an end", party="builder"
        ) from None
    if done.returncode != 0:
        raise PackageError("the image's interpreter cannot compile its own library")
