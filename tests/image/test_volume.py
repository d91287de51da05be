"""A predictor's real image in an emulated machine, and a host that changes the volume with its model: nothing serves, and the machine says why.

The model here is one that the engine cannot load, so that a machine with the published volume comes to its engine, and no further, within seconds.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from emulator_kit import PATIENCE, found_programs, made_with
from sottovoce.image import verity
from sottovoce.simulator.configs import PURPOSE, encode_settings
from sottovoce.simulator.emulator import Emulator, Launch, Programs
from sottovoce.simulator.models import describe
from sottovoce.simulator.testing import EvidenceWorld, settings_of
from sottovoce.tee.features.prompts import prompts_digest
from sottovoce.tee.volume import BLOCK

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]
NAME = "no-model"
CONTENT = b"GGUF" + b"".join(hashlib.sha256(at.to_bytes(4)).digest() for at in range(50_000))


@dataclass
class Built:
    """The image, and the blocks of its model."""

    launch: Launch
    programs: Programs
    blocks: int

    @property
    def volume(self) -> bytes:
        """What was published."""
        assert self.launch.volume is not None
        return self.launch.volume.read_bytes()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    programs = found_programs()
    model = tmp_path_factory.mktemp("model") / f"{NAME}.gguf"
    model.write_bytes(CONTENT)
    found = describe(model)
    artifact = {"name": NAME, "digest": found.digest(PURPOSE), "bytes": found.bytes, "purpose": PURPOSE}
    settings = settings_of(EvidenceWorld(), "predictor", model=artifact, prompts=prompts_digest())
    made, folder = made_with(encode_settings(settings), model=model), tmp_path_factory.mktemp("image")
    made.write(folder)
    assert made.image.volume is not None
    return Built(Launch.read(folder), programs, made.image.volume.blocks)


def ends(launch: Launch, programs: Programs) -> tuple[str, str]:
    """The last line on the console, and the CVM's log, of a machine that must power off."""
    logged: list[bytes] = []
    with Emulator(launch, programs, log=logged.append) as machine:
        assert machine.wait(PATIENCE), machine.console
        (line,) = re.findall(r"sottovoce: .*", machine.console)
    return line, b"".join(logged).decode()


def test_the_published_volume_comes_to_the_engine(built: Built) -> None:
    assert ends(built.launch, built.programs) == (
        "sottovoce: the CVM has ended (2)",
        "sottovoce: the model cannot be loaded\n",
    )


def flipped(volume: bytes, block: int) -> bytes:
    """One bit of a block."""
    changed = bytearray(volume)
    changed[block * BLOCK + 100] ^= 1
    return bytes(changed)


def another(built: Built, place: Path) -> bytes:
    """The volume of another model of the same size, with a tree of its own."""
    (place / "other.gguf").write_bytes(CONTENT[:-1] + b"x")
    verity.write(place / "other.gguf", NAME, place / "other")
    return (place / "other").read_bytes()


UNREADABLE, ABSENT = "an artifact cannot be read as it was published", "missing or too small"
VOLUMES: dict[str, tuple[Callable[[Built, Path], bytes], str]] = {
    "volume, one bit of the model": (lambda one, _: flipped(one.volume, one.blocks // 2), UNREADABLE),
    "volume, one bit of its hashes": (lambda one, _: flipped(one.volume, one.blocks + 1), UNREADABLE),
    "volume, one bit of its top hashes": (lambda one, _: flipped(one.volume, one.blocks), UNREADABLE),
    "volume, another model's": (another, UNREADABLE),
    "volume, its end cut off": (lambda one, _: one.volume[: -3 * BLOCK], ABSENT),
    "volume, three quarters of it": (lambda one, _: one.volume[: one.blocks * 3 // 4 * BLOCK], ABSENT),
}
"""Another volume behind the same image, whose launch digest is that of what was published."""


@pytest.mark.parametrize("name", VOLUMES)
def test_nothing_serves_with_another_volume(built: Built, tmp_path: Path, name: str) -> None:
    change, says = VOLUMES[name]
    (tmp_path / "volume").write_bytes(change(built, tmp_path))
    changed = replace(built.launch, volume=tmp_path / "volume")
    assert changed.measurement() == built.launch.measurement()
    line, log = ends(changed, built.programs)
    assert says in line + log


DISKS: dict[str, tuple[Callable[[Launch], Launch], str]] = {
    "a missing volume": (lambda one: replace(one, volume=None), "an unexpected ACPI table: DSDT"),
    "a second disk of the same kind": (
        lambda one: replace(
            one,
            devices=(
                "-drive",
                "if=none,id=d,driver=null-co",
                "-device",
                "virtio-blk-pci,drive=d,disable-legacy=on",
            ),
        ),
        "an unexpected device: pci 1af4:1042",
    ),
}


@pytest.mark.parametrize("name", DISKS)
def test_pid_1_refuses(built: Built, name: str) -> None:
    change, says = DISKS[name]
    line, _ = ends(change(built.launch), built.programs)
    assert says in line
