"""What is published of an image: read back as it was written, and compared in words."""

import json

import msgspec
import pytest

from sottovoce.core.errors import DecodeError
from sottovoce.image.build import Image, build
from sottovoce.image.files import File, regular
from sottovoce.image.lock import Lock
from sottovoce.image.machines import EMULATED
from sottovoce.image.manifest import Manifest, source_digest
from unit.image.test_build import SETTINGS, materials

LOCK = Lock(packages=(), wheels=())
CODE = {"sottovoce/tee/init.py": regular(b"init")}


def manifest(image: Image | None = None, code: dict[str, File] = CODE) -> Manifest:
    return Manifest.of(
        image or build(materials(), SETTINGS),
        role="guard",
        settings=SETTINGS,
        machine=EMULATED,
        lock=LOCK,
        code=code,
    )


def test_read_back_as_written() -> None:
    one = manifest()
    assert Manifest.parse(one.encode()) == one
    assert json.loads(one.encode())["artifacts"].keys() == {
        "kernel",
        "initrd",
        "command-line",
        "firmware",
        "stub",
    }
    assert one.differences(manifest()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data.replace(b'"version":1', b'"version":2'),
        lambda data: data.replace(b"sottovoce-image", b"sottovoce-other"),
        lambda data: data.replace(b'"role":"guard"', b'"role":1'),
        lambda data: data.replace(b'"settings":"', b'"settings":"*'),
        lambda data: data.replace(b'{"acpi"', b'{"a":1,"acpi"'),
        lambda data: data.replace(b'","', b'", "'),
    ],
)
def test_what_is_none(change: object) -> None:
    assert callable(change)
    data = manifest().encode()
    changed = change(data)
    assert changed != data
    with pytest.raises(DecodeError, match="no manifest"):
        Manifest.parse(changed)


def test_what_differs_is_said() -> None:
    one = manifest()
    other = manifest(
        build(materials(), SETTINGS, command_line="quiet"), {"sottovoce/tee/init.py": regular(b"other")}
    )
    found = one.differences(other)
    assert any(line.startswith("command_line: ") for line in found)
    assert any(line.startswith("source: ") for line in found)
    assert any(line.startswith("artifacts initrd: ") for line in found)
    assert any(line.startswith("digests EPYC-Milan/1: ") for line in found)
    assert not any("kernel" in line for line in found)
    fewer = msgspec.structs.replace(one, artifacts={"kernel": one.artifacts["kernel"]})
    assert "artifacts initrd: " in " ".join(one.differences(fewer))


def test_the_digest_of_a_source_is_of_names_and_contents() -> None:
    found = {
        source_digest(CODE),
        source_digest({"sottovoce/tee/init.py": regular(b"init ")}),
        source_digest({"sottovoce/tee/pid1.py": regular(b"init")}),
    }
    assert len(found) == 3
