"""Modules compiled ahead, by the interpreter that runs these tests, laid out as in an image."""

import importlib.util
import marshal
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

from sottovoce.core.errors import UnavailableError
from sottovoce.image import bytecode
from sottovoce.image.bytecode import compiled
from sottovoce.image.debs import PackageError
from sottovoce.image.files import Files, link, program, regular
from sottovoce.image.userland import FOLDERS, LOADER, PYTHON, SITE

MODULE = b"""
NAMES = {"one", "two", "three"}
def say(word, *, loud=False):
    return word.upper() if loud and word in {"a", "b", "c"} else word
"""
BROKEN = b"def def"
EXAMPLE = f"{SITE}example.py"


def library() -> Iterator[tuple[str, bytes]]:
    """What an interpreter needs to start."""
    folder = Path(sysconfig.get_path("stdlib"))
    for path in [
        one
        for inside in ("", "collections/", "encodings/", "importlib/")
        for one in folder.glob(f"{inside}*.py")
    ]:
        yield f"usr/lib/python3.11/{path.relative_to(folder)}", path.read_bytes()


@pytest.fixture(scope="module")
def userland() -> Files:
    real = Path(sys.executable).resolve()
    told = subprocess.run(["ldd", real], capture_output=True, text=True, check=True).stdout
    libraries = [Path(one) for one in re.findall(r"(/\S+) \(0x", told)]
    loader = next(path for path in libraries if path.name.startswith("ld-linux"))
    if sys.version_info[:2] != (3, 11) or loader.name != LOADER:
        pytest.skip("the layout of an image is that of Python 3.11 on x86-64")
    found = {PYTHON: program(real.read_bytes()), f"usr/lib64/{LOADER}": program(loader.read_bytes())}
    found |= {f"{FOLDERS[0]}/{path.name}": program(path.read_bytes()) for path in libraries}
    found |= {path: regular(content) for path, content in library()}
    return found | {EXAMPLE: regular(MODULE), f"{SITE}template.py": regular(BROKEN), "bin": link("usr/bin")}


def test_modules_become_bytecode(userland: Files) -> None:
    made = compiled(userland)
    assert EXAMPLE not in made
    data = made[f"{EXAMPLE}c"].content
    # PEP 552: magic, then flags that say "by hash, and not looked at", then the source's hash.
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert data[4:8] == b"\x01\0\0\0"
    assert data[8:16] == importlib.util.source_hash(MODULE)
    code = marshal.loads(data[16:])  # noqa: S302 - it was made here
    assert isinstance(code, CodeType)
    assert code.co_filename == f"/{EXAMPLE}"  # where it stands in the image, not where it was compiled
    found: dict[str, object] = {}
    exec(code, found)  # noqa: S102 - and its source stands above
    assert found["NAMES"] == {"one", "two", "three"}
    # What is no module of this version, and all that is none, stays as it is.
    assert made[f"{SITE}template.py"] == userland[f"{SITE}template.py"]
    assert made[PYTHON] == userland[PYTHON]
    assert made["bin"] == userland["bin"]
    assert sum(path.endswith(".pyc") for path in made) == sum(path.endswith(".py") for path in userland) - 1


def test_the_same_bytes_again(userland: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = compiled(userland)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setattr("tempfile.tempdir", None)
    before = os.umask(0o077)
    try:
        assert compiled(dict(reversed(list(userland.items())))) == one
    finally:
        os.umask(before)
        monkeypatch.setattr("tempfile.tempdir", None)


def test_an_interpreter_that_does_not_run(userland: Files) -> None:
    with pytest.raises(UnavailableError, match="does not run here"):
        compiled({**userland, f"usr/lib64/{LOADER}": program(b"no program")})
    with pytest.raises(PackageError):
        compiled({**userland, PYTHON: program(b"no program")})


def test_an_interpreter_that_does_not_come_to_an_end(
    userland: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecode, "_SECONDS", 0.2)
    monkeypatch.setattr(bytecode, "_SCRIPT", "import time; time.sleep(60)")
    with pytest.raises(UnavailableError, match="does not come to an end"):
        compiled(userland)
