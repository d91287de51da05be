"""What a CVM can import and what is measured are one set: a planted file changes the measurement, or cannot be imported."""

import hashlib
import importlib.machinery
import importlib.util
import py_compile
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sottovoce.core.errors import ConfigError
from sottovoce.simulator.measure import (
    Measurement,
    Runtime,
    code_root,
    measure,
    measure_code,
    measure_files,
    start_command,
)

EXTENSION = importlib.machinery.EXTENSION_SUFFIXES[0]
MODEL = {"model.gguf": b"m" * 32}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A small CVM: our code, a library and distributions of a few files; the interpreter is the real one."""

    code: Path
    runtime: Runtime

    def measure(self) -> Measurement:
        return measure(
            settings=b"settings", artifacts=MODEL, code=measure_code(self.code, runtime=self.runtime)
        )

    def run(self, program: str) -> str:
        """What the real interpreter prints that a launcher would start, with `program` in the place of the CVM."""
        (self.code / "sottovoce/tee/boot.py").write_text(program)
        library = Runtime.current().library  # no interpreter starts without it
        command = start_command(self.code, runtime=replace(self.runtime, library=library))
        return subprocess.run(
            command, env={}, cwd="/", capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def compiled(path: Path, text: str) -> None:
    """Bytecode alone, which an interpreter imports like a module."""
    write(path.with_suffix(".source"), text)
    py_compile.compile(str(path.with_suffix(".source")), cfile=str(path), doraise=True)
    path.with_suffix(".source").unlink()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for name in ("__init__", "core/__init__", "core/cbor", "tee/__init__", "tee/boot", "simulator/__init__"):
        write(tmp_path / f"code/sottovoce/{name}.py", f"ORIGIN = 'measured {name}'\n")
    write(tmp_path / "code/sottovoce/tee/prompt.txt", "be brief")
    for name in ("hmac", "json/__init__", "test/support", "tkinter/__init__", "unittest/test/__init__"):
        write(tmp_path / f"library/{name}.py", "")
    write(tmp_path / "library/site-packages/pip.py", "")
    write(tmp_path / "packages/h11/__init__.py", "ORIGIN = 'measured h11'\n")
    write(tmp_path / "packages/typed.py", "ORIGIN = 'measured typed'\n")
    write(tmp_path / "packages/h11-1.dist-info/RECORD", "")
    write(tmp_path / "packages/mypy/__init__.py", "")
    runtime = Runtime(
        interpreter=Runtime.current().interpreter,
        library=tmp_path / "library",
        packages=tmp_path / "packages",
        names=("h11", "typed"),
    )
    return Machine(code=tmp_path / "code", runtime=runtime)


def difference(machine: Machine, change: Callable[[], object]) -> list[str]:
    before = machine.measure()
    assert machine.measure().digest == before.digest
    change()
    after = machine.measure()
    assert (after.digest == before.digest) == (not before.difference(after))
    return before.difference(after)


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("code/sottovoce/__init__.py", "code"),
        ("code/sottovoce/core/cbor.py", "code"),
        ("code/sottovoce/tee/prompt.txt", "code"),
        ("library/hmac.py", "library"),
        ("library/unittest/test/__init__.py", "library"),
        ("packages/h11/__init__.py", "distributions"),
        ("packages/typed.py", "distributions"),
    ],
)
def test_one_byte_of_code_changes_the_measurement(
    machine: Machine, tmp_path: Path, file: str, part: str
) -> None:
    path = tmp_path / file
    assert difference(machine, lambda: path.write_bytes(path.read_bytes() + b" ")) == [part]
    assert difference(machine, path.unlink) == [part]


def test_settings_and_model_change_the_measurement(tmp_path: Path) -> None:
    code = {"code": bytes(48)}
    base = measure(settings=b"settings", artifacts=MODEL, code=code)
    assert base.difference(measure(settings=b"settingt", artifacts=MODEL, code=code)) == ["settings"]
    (tmp_path / "model").write_bytes(b"weights")
    files = {"model.gguf": tmp_path / "model"}
    model = measure(settings=b"settings", artifacts=measure_files(files, purpose="inference"), code=code)
    assert base.difference(model) == ["artifact model.gguf"]
    (tmp_path / "model").write_bytes(b"weighty")
    assert (
        model.digest
        != measure(
            settings=b"settings", artifacts=measure_files(files, purpose="inference"), code=code
        ).digest
    )
    renamed = measure(settings=b"settings", artifacts={"model.ggug": b"m" * 32}, code=code)
    assert renamed.digest != base.digest


def test_a_renamed_or_moved_file_changes_the_measurement(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "packages/h11/__init__.py"
    assert difference(machine, lambda: path.rename(path.with_name("_init__.py"))) == ["distributions"]
    core = tmp_path / "code/sottovoce/core/cbor.py"
    assert difference(machine, lambda: core.rename(tmp_path / "code/sottovoce/tee/cbor.py")) == ["code"]


PLANTED = [
    # a package wins over the module of its name, and an extension or bytecode is a package's first file too
    ("code/sottovoce/core/cbor/__init__.pyc", "code"),
    (f"code/sottovoce/__init__{EXTENSION}", "code"),
    (f"code/sottovoce/core/cbor{EXTENSION}", "code"),
    ("library/hmac/__init__.pyc", "library"),
    ("library/hmac.so", "library"),
    ("library/lib-dynload/_json.so", "library"),
    ("library/encodings/utf_8/__init__.pyc", "library"),
    ("packages/h11/_version.pyc", "distributions"),
    ("packages/typed/__init__.pyc", "distributions"),
    (f"packages/typed{EXTENSION}", "distributions"),
    ("packages/h11/tests/__init__.py", "distributions"),
    # the dynamic linker looks beside an extension before it looks in the system
    ("packages/h11.libs/libm.so.6", "distributions"),
]


@pytest.mark.parametrize(("file", "part"), PLANTED)
def test_a_planted_file_that_can_be_imported_changes_the_measurement(
    machine: Machine, tmp_path: Path, file: str, part: str
) -> None:
    assert difference(machine, lambda: write(tmp_path / file, "planted")) == [part]


@pytest.mark.parametrize(
    "name", ["pyvenv.cfg", "pybuilddir.txt", "python3.11._pth", "../pyvenv.cfg", "library.zip"]
)
def test_what_steers_the_interpreter_is_measured(machine: Machine, tmp_path: Path, name: str) -> None:
    program = tmp_path / "machine/bin/python3.11"
    write(program, "interpreter")
    runtime = replace(machine.runtime, interpreter=program)
    moved = replace(machine, runtime=runtime)
    archive = runtime.library.parent / Path(importlib.util.__file__).parents[1].name.replace(".", "")
    path = archive.with_suffix(".zip") if name == "library.zip" else program.parent / name
    assert difference(moved, lambda: write(path, "planted")) == ["interpreter"]
    assert difference(moved, lambda: write(program, "Interpreter")) == ["interpreter"]


def test_what_a_cvm_may_import_and_how_it_starts_are_measured(machine: Machine) -> None:
    more = replace(machine, runtime=replace(machine.runtime, names=("h11", "mypy", "typed")))
    assert machine.measure().difference(more.measure()) == ["distributions", "start"]


FIND = """
import importlib
for name in {names!r}:
    try:
        print(name, getattr(importlib.import_module(name), "ORIGIN", "found"))
    except ModuleNotFoundError:
        print(name, "no")
"""


def imports(machine: Machine, *names: str) -> dict[str, str]:
    lines = machine.run(FIND.format(names=names)).splitlines()
    return {name: found for name, _, found in (line.partition(" ") for line in lines)}


def test_what_is_not_measured_cannot_be_imported(machine: Machine, tmp_path: Path) -> None:
    def plant() -> None:
        for name in ("orjson", "json", "sitecustomize", "usercustomize"):
            write(tmp_path / f"packages/{name}.py", "ORIGIN = 'planted'\n")
            write(tmp_path / f"code/{name}.py", "ORIGIN = 'planted'\n")
        write(tmp_path / "packages/evil.pth", "import os; os.write(1, b'planted')\n")
        write(tmp_path / "packages/sottovoce/core/cbor.py", "ORIGIN = 'planted'\n")
        write(tmp_path / "code/typed.py", "ORIGIN = 'planted'\n")
        write(tmp_path / "code/sottovoce/device/__init__.py", "ORIGIN = 'planted'\n")

    assert difference(machine, plant) == []
    assert imports(
        machine, "json", "orjson", "sitecustomize", "usercustomize", "mypy", "site", "sottovoce.core.cbor",
        "sottovoce.device", "sottovoce.simulator", "h11", "typed", "tkinter", "test.support", "idlelib", "ensurepip",
    ) == {
        "json": "found", "orjson": "no", "sitecustomize": "no", "usercustomize": "no", "mypy": "no", "site": "found",
        "sottovoce.core.cbor": "measured core/cbor", "sottovoce.device": "no", "sottovoce.simulator": "no",
        "h11": "measured h11", "typed": "measured typed",
        "tkinter": "no", "test.support": "no", "idlelib": "no", "ensurepip": "no",
    }  # fmt: skip


def test_forged_cached_bytecode_is_not_read(machine: Machine, tmp_path: Path) -> None:
    def plant() -> None:
        for path, name in (
            ("code/sottovoce/core", "cbor"),
            ("packages/h11", "__init__"),
            ("packages", "typed"),
        ):
            source = tmp_path / path / f"{name}.py"
            forged = Path(importlib.util.cache_from_source(source))
            compiled(forged, "ORIGIN = 'planted'\n")
            code = forged.read_bytes()[16:]
            status = source.stat()
            # PEP 552: flags 0, then time and size of the source, as if it had been compiled from it
            stamp = int(status.st_mtime).to_bytes(4, "little") + status.st_size.to_bytes(4, "little")
            forged.write_bytes(importlib.util.MAGIC_NUMBER + bytes(4) + stamp + code)
            compiled(forged.parent / "planted.pyc", "ORIGIN = 'planted'\n")

    assert difference(machine, plant) == []
    names = ("sottovoce.core.cbor", "h11", "typed", "h11.__pycache__.planted", "__pycache__.planted")
    assert imports(machine, *names) == {
        "sottovoce.core.cbor": "measured core/cbor",
        "h11": "measured h11",
        "typed": "measured typed",
        "h11.__pycache__.planted": "no",
        "__pycache__.planted": "no",
    }
    # The same files do what their maker wanted where an interpreter starts as usual.
    usual = [str(Runtime.current().interpreter), "-I", "-S", "-c"]
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'packages')!r}); import h11; print(h11.ORIGIN)"
    assert subprocess.run([*usual, program], capture_output=True, text=True, check=True).stdout == "planted\n"


def test_a_cvm_sees_only_the_places_that_are_measured(machine: Machine) -> None:
    shown = machine.run(
        "import sys\n"
        "print(sys.path, sys.argv[1:], sys.pycache_prefix, sys.flags.no_site, sys.flags.isolated, sys.dont_write_bytecode)"
    )
    library = str(Runtime.current().library)
    assert shown == f"{[library, library + '/lib-dynload']} [] /dev/null 1 1 True"


def test_the_running_code_is_measured_quickly_and_all_that_it_imports_is_there() -> None:
    runtime = Runtime.current()
    assert {"cryptography", "OpenSSL", "h11", "msgspec", "llama_cpp"} <= set(runtime.names)
    # What is not measured cannot be imported, and what no CVM imports is not measured.
    assert not {"starlette", "aiohttp", "click", "rich"} & set(runtime.names)
    assert not {"pip", "pytest", "sottovoce", "mypy"} & set(runtime.names)
    measured = measure_code()
    assert sorted(measured) == ["code", "distributions", "interpreter", "library", "start"]
    assert measured == measure_code(code_root())
    # Most of it, found in another way than it is measured: Python's library and what is beside it.
    folders = [runtime.library, *(runtime.packages / name for name in runtime.names)]
    skipped = {"site-packages", "dist-packages", "test", "__pycache__"}
    files = [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not skipped & set(path.relative_to(folder).parts)
    ]
    assert len(files) > 1000
    took: list[float] = []
    needed: list[float] = []
    for _ in range(3):
        needed.append(seconds(lambda: [hashlib.sha256(path.read_bytes()) for path in files]))
        took.append(seconds(measure_code))
    # To read them and take their digests takes nearly as long, on a quiet machine.
    assert min(took) < 10 * min(needed)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def test_a_file_that_cannot_be_read_is_an_error(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "packages/h11/gone.py").symlink_to("nowhere")
    with pytest.raises(ConfigError):
        machine.measure()
    with pytest.raises(ConfigError):
        measure_files({"model": tmp_path / "gone"}, purpose="inference")
