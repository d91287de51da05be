"""Wheels: exactly these bytes, and nothing of them that says where they were installed."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.image import pip
from sottovoce.image import wheels as module
from sottovoce.image.debs import PackageError
from sottovoce.image.packages import StaleLockError
from sottovoce.image.wheels import Wheel, fetch_wheels, unpack_wheel


def zipped(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


GOOD = zipped(
    {
        "h11/__init__.py": b"h11",
        "h11/tests/test_h11.py": b"test",
        "h11/__pycache__/a.pyc": b"",
        "h11/old.pyc": b"",
        "h11-0.16.0.dist-info/METADATA": b"Name: h11",
        "h11-0.16.0.dist-info/RECORD": b"record",
        "h11-0.16.0.dist-info/INSTALLER": b"pip",
    }
)
ONE = Wheel(file="h11-0.16.0-py3-none-any.whl", sha256=hashlib.sha256(GOOD).hexdigest())


def test_what_is_in_it() -> None:
    found = unpack_wheel(GOOD)
    assert set(found) == {"h11/__init__.py", "h11-0.16.0.dist-info/METADATA"}
    assert found["h11/__init__.py"].content == b"h11"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "cannot be read"),
        (GOOD[:-30], "cannot be read"),
        (zipped({"../a": b""}), "does not belong"),
        (zipped({"/etc/passwd": b""}), "does not belong"),
        (zipped({"h11-0.16.0.data/scripts/h11": b""}), "does not belong"),
    ],
)
def test_what_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(PackageError, match=says):
        unpack_wheel(data)


def test_one_that_grows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 1000)
    with pytest.raises(PackageError, match="larger"):
        unpack_wheel(zipped({"a": bytes(1001)}))


@given(at=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(at: int, value: int) -> None:
    data = bytearray(GOOD)
    data[at] = value
    try:
        found = unpack_wheel(bytes(data))
    except PackageError:
        return
    assert all(".." not in path for path in found)


def test_fetched_once_and_kept(tmp_path: Path) -> None:
    asked: list[str] = []

    def download(lines: str, place: Path) -> bool:
        asked.append(lines)
        (place / ONE.file).write_bytes(GOOD)
        return True

    assert fetch_wheels([ONE], tmp_path / "cache", download=download) == [GOOD]
    assert asked == [f"h11==0.16.0 --hash=sha256:{ONE.sha256}\n"]
    assert fetch_wheels([ONE], tmp_path / "cache", download=download) == [GOOD]
    assert len(asked) == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [ONE.file]
    # What is kept is looked at each time.
    (tmp_path / "cache" / ONE.file).write_bytes(b"another")
    assert fetch_wheels([ONE], tmp_path / "cache", download=download) == [GOOD]


@pytest.mark.parametrize(
    ("came", "content", "says"),
    [(True, b"another", "is stale"), (True, None, "is stale"), (False, None, "cannot be downloaded")],
)
def test_one_that_is_not_to_be_had(tmp_path: Path, came: bool, content: bytes | None, says: str) -> None:
    def download(lines: str, place: Path) -> bool:
        if content is not None:
            (place / ONE.file).write_bytes(content)
        return came

    with pytest.raises(StaleLockError, match=says) as found:
        fetch_wheels([ONE], tmp_path, download=download)
    assert "sottovoce image lock" in found.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_folder_is_not_taken_for_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    pip.download("", tmp_path)
    assert not (tmp_path / "ran").exists()
