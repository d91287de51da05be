"""The archive that the kernel unpacks: the same files, the same bytes; and what another reader finds in it."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from image_kit import read_cpio
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.image import files as module
from sottovoce.image.files import (
    File,
    archive,
    device,
    directory,
    link,
    program,
    read_archive,
    regular,
    write,
)

FILES = {
    "usr/bin/python3.11": program(b"\x7fELF"),
    "usr/lib/text": regular(b"hello"),
    "bin": link("usr/bin"),
    "dev/console": device(5, 1),
    "tmp": directory(0o1777),
    "usr/empty": regular(b""),
}


def test_what_stands_in_it() -> None:
    found = read_cpio(archive(FILES))
    assert list(found) == sorted(found)
    assert [fields["ino"] for fields, _ in found.values()] == list(range(1, len(found) + 1))
    for fields, _ in found.values():
        assert (fields["uid"], fields["gid"], fields["mtime"], fields["nlink"], fields["check"]) == (
            0,
            0,
            0,
            1,
            0,
        )
    assert set(found) == {*FILES, "usr", "usr/bin", "usr/lib", "dev"}
    assert found["usr"][0]["mode"] == stat.S_IFDIR | 0o755
    assert found["usr/bin/python3.11"][0]["mode"] == stat.S_IFREG | 0o555
    assert found["usr/lib/text"][1] == b"hello"
    assert found["bin"] == ({**found["bin"][0], "mode": stat.S_IFLNK | 0o777}, b"usr/bin")
    assert (found["dev/console"][0]["rdevmajor"], found["dev/console"][0]["rdevminor"]) == (5, 1)
    assert found["tmp"][0]["mode"] == stat.S_IFDIR | 0o1777


def test_the_same_files_in_another_order() -> None:
    assert archive(dict(reversed(FILES.items()))) == archive(FILES)


def test_another_program_unpacks_it(tmp_path: Path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not here (Debian: apt-get install cpio)")
    some = {path: file for path, file in FILES.items() if not path.startswith("dev")}
    subprocess.run(["cpio", "-idm", "--quiet"], input=archive(some), cwd=tmp_path, check=True)
    assert (tmp_path / "usr/lib/text").read_bytes() == b"hello"
    assert (tmp_path / "bin").is_symlink()
    assert (tmp_path / "bin/python3.11").stat().st_mode & 0o777 == 0o555


@pytest.mark.parametrize(
    "path", ["", "/etc", "etc/", "a//b", "../etc", "a/../b", "./a", "a\nb", "a\0b", "x" * 5000]
)
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(UsageError, match="path"):
        archive({path: regular(b"")})


def test_below_a_file_or_a_link() -> None:
    for above in (regular(b""), link("usr/bin")):
        with pytest.raises(UsageError, match="no directory"):
            archive({"bin": above, "bin/python": program(b"")})


def test_more_than_an_archive_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 4)
    assert archive({"a": regular(b"1234")})
    with pytest.raises(UsageError, match="too large"):
        archive({"a": regular(b"12345")})


def test_no_repr_shows_a_file() -> None:
    assert "hello" not in repr(File(0, b"hello"))


def test_read_back() -> None:
    found = read_archive(archive(FILES))
    assert {path: found[path] for path in FILES} == FILES


def entries(*files: tuple[str, File]) -> bytes:
    """An archive that somebody has made with other tools, of whatever paths."""
    parts = [module._entry(number, path, file) for number, (path, file) in enumerate(files, 1)]
    return b"".join([*parts, module._entry(0, "TRAILER!!!", File(0))])


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside", "a//b", ".", "", "a\nb"])
def test_an_archive_of_somebodys_with_a_path_that_leads_out(path: str) -> None:
    with pytest.raises(DecodeError, match="path"):
        read_archive(entries((path, regular(b"x"))))


def test_an_archive_of_somebodys_that_hides_something() -> None:
    one = entries(("a", regular(b"x")))
    assert read_archive(one) == {"a": regular(b"x")}
    # The kernel would unpack these, the last one above the others.
    with pytest.raises(DecodeError, match="follows"):
        read_archive(one + one)
    with pytest.raises(DecodeError, match="path"):
        read_archive(entries(("a", regular(b"x")), ("a", regular(b"y"))))
    for target in (b"", b"a\0b", b"\xff"):
        with pytest.raises(DecodeError, match="path"):
            read_archive(entries(("a", File(stat.S_IFLNK | 0o777, target))))


def test_written(tmp_path: Path) -> None:
    place = tmp_path / "a/place"
    write({path: file for path, file in FILES.items() if path != "dev/console"}, place)
    assert (place / "usr/lib/text").read_bytes() == b"hello"
    assert (place / "usr/bin/python3.11").stat().st_mode & 0o777 == 0o555
    assert (place / "bin").readlink() == Path("usr/bin")


def test_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    out, place = tmp_path / "out", tmp_path / "place"
    out.mkdir()
    for files in (
        {"../out/x": regular(b"")},
        {f"{out}/x": regular(b"")},
        {"a": link(str(out)), "a/x": regular(b"")},
        {"a": link(str(out)), "a/x": link("somewhere")},
        {"a": link(str(out)), "a/b/x": regular(b"")},
    ):
        with pytest.raises(UsageError):
            write(files, place)
        assert list(out.iterdir()) == []


@pytest.mark.parametrize("cut", [10, 120, 300])
def test_what_is_no_archive(cut: int) -> None:
    data = archive(FILES)
    for odd in (
        b"",
        data[:-cut],
        b"070702" + data[6:],
        data.replace(b"070701", b"07070X", 1),
        b"070701" + b"Z" * 104,
    ):
        with pytest.raises(DecodeError):
            read_archive(odd)
