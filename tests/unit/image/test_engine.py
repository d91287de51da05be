"""The engine's native code: what goes into compiling it, and what comes of it. It is compiled in `tests/image`."""

import hashlib
import io
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sottovoce.core.errors import UnavailableError
from sottovoce.image import engine
from sottovoce.image.debs import PackageError
from sottovoce.image.engine import compile_engine
from sottovoce.image.files import File, Files, archive, link, program, regular
from sottovoce.image.lock import Lock
from sottovoce.image.packages import Source, StaleLockError

SOURCE = {
    "llama_cpp/__init__.py": b"from .llama import *",
    "llama_cpp/llama.py": b"import numpy",
    "llama_cpp/llama_cpp.py": b"names",
    "llama_cpp/_ctypes_extensions.py": b"more names",
    "vendor/llama.cpp/CMakeLists.txt": b"cmake",
    "vendor/llama.cpp/src/llama.cpp": b"code",
    "vendor/llama.cpp/tools/server.cpp": b"a server",
}


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"engine-1/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


class Workshop:
    """A lock whose source is in the cache, and a compiler that writes down what it was given."""

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
        self.cache = cache
        source = Source(
            url="https://files.example/engine-1.tar.gz",
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
        )
        self.lock = Lock(packages=(), wheels=(), sources=(source,))
        self.kept = cache / f"{source.sha256}.source"
        self.kept.write_bytes(data)
        self.compiled: list[Files] = []
        monkeypatch.setattr(engine, "_compiled", self.compile)

    def compile(self, lock: Lock, cache: Path, source: Files) -> dict[str, File]:
        self.compiled.append(source)
        names = ("libllama.so", "libggml.so.0", "libggml-base.so.0", "libggml-cpu.so.0")
        return {name: program(name.encode()) for name in names}


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch, packed(SOURCE))


def test_the_library_and_the_names_of_its_functions_alone(workshop: Workshop) -> None:
    made = compile_engine(workshop.lock, workshop.cache)
    assert {path: file.content for path, file in made.site.items()} == {
        "llama_cpp/__init__.py": b"",
        "llama_cpp/llama_cpp.py": b"names",
        "llama_cpp/_ctypes_extensions.py": b"more names",
        "llama_cpp/lib/libllama.so": b"libllama.so",
    }
    assert set(made.libraries) == {
        f"usr/lib/x86_64-linux-gnu/lib{name}.so.0" for name in ("ggml", "ggml-base", "ggml-cpu")
    }
    (given,) = workshop.compiled
    assert "vendor/llama.cpp/src/llama.cpp" in given
    assert not any("tools" in path for path in given)


def test_compiled_once(workshop: Workshop) -> None:
    first = compile_engine(workshop.lock, workshop.cache)
    assert compile_engine(workshop.lock, workshop.cache) == first
    assert len(workshop.compiled) == 1
    # What was kept and is damaged, or not all of it, is compiled again.
    (kept,) = workshop.cache.glob("engine-*.cpio")
    for times, damaged in ((2, kept.read_bytes()[:50]), (3, archive({}))):
        kept.write_bytes(damaged)
        assert compile_engine(workshop.lock, workshop.cache) == first
        assert len(workshop.compiled) == times


def test_of_two_at_once_one_compiles(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    compile_once = workshop.compile

    def slowly(lock: Lock, cache: Path, source: Files) -> dict[str, File]:
        begun.set()
        assert go_on.wait(10)
        return compile_once(lock, cache, source)

    monkeypatch.setattr(engine, "_compiled", slowly)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(compile_engine, workshop.lock, workshop.cache)
        assert begun.wait(10)
        second = pool.submit(compile_engine, workshop.lock, workshop.cache)
        go_on.set()
        assert first.result(10) == second.result(10)
    assert len(workshop.compiled) == 1


def test_another_lock_or_other_flags_are_compiled_anew(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_engine(workshop.lock, workshop.cache)
    monkeypatch.setattr(engine, "_FLAGS", (*engine._FLAGS, "-DMORE=ON"))
    compile_engine(workshop.lock, workshop.cache)
    assert len(workshop.compiled) == 2


def without(name: str) -> bytes:
    return packed({path: content for path, content in SOURCE.items() if path != name})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        packed(SOURCE)[:60],
        packed(SOURCE)[:30] + b"\xff" * 8 + packed(SOURCE)[38:],
        packed(SOURCE | {"vendor/llama.cpp/src/../../../../etc/evil": b"outside"}),
        without("llama_cpp/llama_cpp.py"),
        without("vendor/llama.cpp/CMakeLists.txt"),
    ],
)
def test_what_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    with pytest.raises(PackageError):
        compile_engine(Workshop(tmp_path, monkeypatch, data).lock, tmp_path)


def test_a_lock_without_a_source(workshop: Workshop) -> None:
    with pytest.raises(PackageError, match="one source"):
        compile_engine(Lock(packages=(), wheels=()), workshop.cache)


def test_a_source_that_is_gone(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(url: str, most: int) -> bytes:
        raise FileNotFoundError

    workshop.kept.unlink()
    monkeypatch.setattr("sottovoce.image.packages.get", gone)
    with pytest.raises(StaleLockError) as found:
        compile_engine(workshop.lock, workshop.cache)
    assert str(workshop.kept) in found.value.hint
    assert "sottovoce image lock --for engine" in found.value.hint


def root_of(place: Path) -> Path:
    """A folder with nothing in it that could run."""
    (place / "bin").mkdir(parents=True)
    return place


def test_what_cannot_be_compiled_says_why(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as found:
        engine._inside(root_of(tmp_path), "/bin/no-compiler")
    assert found.value.hint


def test_nothing_is_compiled_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(UnavailableError, match="cannot be compiled here"):
        engine._inside(root_of(tmp_path), "/bin/compiler")


def test_a_result_that_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "of-this-machine").write_bytes(b"secret")
    root = tmp_path / "root"
    place = root / "build/out/bin"
    place.mkdir(parents=True)
    (place / "real").write_bytes(b"library")
    for name in ("libllama.so", "libggml.so.0", "libggml-base.so.0", "libggml-cpu.so.0"):
        (place / name).symlink_to("real")
    assert [content for _, content in engine._results(root)] == [b"library"] * 4
    (place / "libggml.so.0").unlink()
    for target in (str(tmp_path / "of-this-machine"), "../../../../of-this-machine", "libggml.so.0"):
        (place / "libggml.so.0").symlink_to(target)
        with pytest.raises(PackageError, match=r"does not give libggml\.so\.0"):
            list(engine._results(root))
        (place / "libggml.so.0").unlink()


def test_packages_that_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="do not go together"):
        engine._furnish(tmp_path, {"usr/lib": link("/etc"), "usr/lib/file": regular(b"")})
    (tmp_path / "usr").write_bytes(b"in the way")
    with pytest.raises(UnavailableError, match="cannot be unpacked"):
        engine._furnish(tmp_path, {"usr/lib/file": regular(b"")})


def test_an_archive_is_what_is_kept(workshop: Workshop) -> None:
    compile_engine(workshop.lock, workshop.cache)
    (kept,) = workshop.cache.glob("engine-*.cpio")
    assert kept.read_bytes() == archive(workshop.compile(workshop.lock, workshop.cache, {}))
