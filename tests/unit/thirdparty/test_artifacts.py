import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from sottovoce.core.errors import ConfigError
from sottovoce.thirdparty import artifacts
from sottovoce.thirdparty.artifacts import read_tree
from sottovoce.tlog.artifacts import MAX_FILES, ArtifactFormError, ArtifactLimitError, File, Tree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    (folder / "b").mkdir(parents=True)
    (folder / "a").write_bytes(b"one")
    (folder / "b" / "c").write_bytes(b"three")
    return folder


def file(path: str, data: bytes) -> File:
    return File(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def test_a_folder_and_a_file(folder: Path) -> None:
    assert read_tree(folder) == Tree.of([file("b/c", b"three"), file("a", b"one")])
    assert read_tree(folder / "a") == Tree.of([file("", b"one")])
    # Modes and times are not in it.
    os.chmod(folder / "a", 0o755)  # noqa: PTH101, S103
    os.utime(folder / "a", (0, 0))
    assert read_tree(folder).files[0] == file("a", b"one")


def test_what_is_no_file_and_no_folder(folder: Path) -> None:
    for make in (
        lambda path: path.symlink_to("a"),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(folder / "b"),
        os.mkfifo,
        lambda path: path.mkdir(),
    ):
        odd = folder / "b" / "odd"
        make(odd)
        with pytest.raises(ArtifactFormError):
            read_tree(folder)
        if odd.is_dir() and not odd.is_symlink():
            odd.rmdir()
        else:
            odd.unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "s"))
        with pytest.raises(ArtifactFormError):
            read_tree(folder)


def test_names_that_are_not_text(folder: Path) -> None:
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))).write_bytes(b"")
    with pytest.raises(ArtifactFormError):
        read_tree(folder)


def test_limits_are_kept_before_everything_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(MAX_FILES + 50):
        (folder / f"f{number}").write_bytes(b"")
    read: list[str] = []
    genuine = artifacts._file

    def counted(descriptor: int, path: str) -> File:
        read.append(path)
        return genuine(descriptor, path)

    monkeypatch.setattr(artifacts, "_file", counted)
    with pytest.raises(ArtifactLimitError):
        read_tree(folder)
    assert len(read) == MAX_FILES + 1


def test_a_folder_that_has_itself_deep_inside(tmp_path: Path) -> None:
    deep = tmp_path / "artifact" / "/".join("abcdefghi")
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"")
    with pytest.raises(ArtifactLimitError):
        read_tree(tmp_path / "artifact")
    deeper = deep / "/".join("x" * 40)
    deeper.mkdir(parents=True)
    with pytest.raises(ArtifactLimitError, match="nested"):
        read_tree(tmp_path / "artifact")


def test_a_file_that_changes_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = hashlib.file_digest

    def growing(opened: Any, name: str) -> Any:
        with (folder / "a").open("ab") as other:
            other.write(b"more")
        return genuine(opened, name)

    monkeypatch.setattr(hashlib, "file_digest", growing)
    with pytest.raises(ConfigError, match="changed"):
        read_tree(folder / "a")


def test_what_cannot_be_read(folder: Path) -> None:
    with pytest.raises(ConfigError):
        read_tree(folder / "gone")
