"""Another image than the published one (rows 18, 25): another launch digest, which a device refuses; and packages that are not the locked ones."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from attack_kit import REQUEST, MemoryStage
from image_kit import elf
from sottovoce.attacks import altered_image, images, other_command_line, workshop
from sottovoce.attacks.altered_image import BITS, byte_changed, package_swapped
from sottovoce.attacks.attack import Result
from sottovoce.attacks.images import Built, digest, trial
from sottovoce.attacks.workshop import NO_WORKSHOP, Workshop
from sottovoce.attest.verdict import Checklist, Status
from sottovoce.cli import attack as command
from sottovoce.core.errors import UnavailableError
from sottovoce.image import build as building
from sottovoce.image import packages, wheels
from sottovoce.image.build import Image, build
from sottovoce.image.files import program, regular
from sottovoce.image.lock import Lock
from sottovoce.image.userland import PYTHON
from unit.image.test_build import DEBIAN, materials

PROJECT = Path(__file__).parents[2]
LOCK = Lock.parse((PROJECT / "deploy/image.lock").read_bytes())
LIBRARY = "usr/lib/x86_64-linux-gnu/libexpat.so.1"
# Its interpreter is none: it compiles nothing, and needs the library that is swapped.
NEEDS = program(elf("libc.so.6", "libexpat.so.1"))


@pytest.fixture(scope="module")
def published() -> Built:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(building, "compiled", dict)
        made_of = materials({**DEBIAN, PYTHON: NEEDS, f"{LIBRARY}": regular(elf())})
        made_of = replace(made_of, site={**made_of.site, "h11/_connection.py": regular(b"pass\n")})
        return Built(made_of=made_of, settings=b"{}", image=build(made_of, b"{}"))


@pytest.fixture
def stage(published: Built, monkeypatch: pytest.MonkeyPatch) -> MemoryStage:
    """A world whose log has a release of the published image."""
    monkeypatch.setattr(images, "built", lambda _: published)
    monkeypatch.setattr(building, "compiled", dict)
    stage = MemoryStage()
    stage.stage = replace(stage.stage, workshop=Workshop(project=PROJECT, has_lock=True))
    (entry,) = images.entries(stage.stage)
    stage.world.append(entry)
    return stage


def changed(published: Built) -> dict[str, Image]:
    return {
        **{name: change(published) for name, change in BITS.items()},
        "one byte more in a module": published.again(byte_changed(published.made_of)),
        "one package swapped": published.again(package_swapped(published.made_of)),
        **{
            f"launched {name}": replace(published.image, command_line=text)
            for name, text in other_command_line.LINES.items()
        },
    }


def test_a_device_refuses_each_and_believes_it_where_nobody_compares(
    stage: MemoryStage, published: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = stage.attempt(trial("the published image", published.image))
    assert (control.stopped_by, control.read) == (set(), REQUEST)
    altered = changed(published)
    assert len({digest(image) for image in (published.image, *altered.values())}) == len(altered) + 1
    for name, image in altered.items():
        attempt = stage.attempt(trial(name, image))
        assert (attempt.stopped_by, attempt.read) == ({"measurement"}, b""), name
    genuine = Checklist._put

    def put(self: Checklist, check: str, status: Status, found: str, wanted: str) -> None:
        genuine(self, check, Status.PASS if check == "measurement" else status, found, wanted)

    monkeypatch.setattr(Checklist, "_put", put)
    for name, image in altered.items():
        attempt = stage.attempt(trial(name, image))
        assert (attempt.stopped_by, attempt.read) == (set(), REQUEST), name


def test_the_files_that_differ_are_those_that_were_changed(published: Built) -> None:
    def differing(image: Image) -> list[str]:
        here, there = published.image.contents(), image.contents()
        return [path for path in sorted({*here, *there}) if here.get(path) != there.get(path)]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(building, "compiled", dict)
        module, library = (
            published.again(change(published.made_of)) for change in (byte_changed, package_swapped)
        )
    assert differing(module) == ["usr/lib/python3/dist-packages/h11/_connection.py"]
    assert differing(library) == [LIBRARY]


# Packages.


def test_a_swapped_package_is_refused_by_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    results = list(altered_image._fetched(LOCK))
    assert len(results) == 4
    assert [result.to_json() for result in results if not result.is_stopped] == []
    monkeypatch.setattr(packages, "_is", lambda *_: True)
    monkeypatch.setattr(wheels, "_is", lambda _, path: path.exists())
    results = list(altered_image._fetched(LOCK))
    assert [result.outcome.stopped_by for result in results] == [frozenset()] * 4


def test_a_package_of_another_length_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = min(LOCK.packages, key=lambda package: package.size)
    monkeypatch.setattr(packages, "_is", lambda package, data: len(data) == package.size)
    data = os.urandom(one.size)
    assert altered_image.swapped_package(one, data).stopped_by == frozenset()
    assert altered_image.swapped_package(one, data + b"!").stopped_by == {"unavailable.image-lock"}


def test_another_lock_names_another_package() -> None:
    other = altered_image._other_lock(LOCK)
    assert sum(a != b for a, b in zip(LOCK.packages, other.packages, strict=True)) == 1


# What is not run here says so.


def test_without_packages_it_says_so(tmp_path: Path) -> None:
    here = Workshop.here(tmp_path, ask=False)
    assert here.missing == here.unbooted == "the image's packages are not here"
    assert here.has_lock


def test_where_packages_cannot_be_fetched_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise UnavailableError("the mirror of Debian's packages does not answer", party="mirror")

    monkeypatch.setattr(workshop, "fetch", nobody)
    here = Workshop.here(tmp_path, ask=True)
    assert here.missing == here.unbooted == "the mirror of Debian's packages does not answer"


def test_without_the_project_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "code_root", lambda: tmp_path / "src")
    here = Workshop.here(tmp_path, ask=True)
    assert here.missing == here.unbooted == "an image is built in the project's own folder"
    assert not here.has_lock


def test_without_a_workshop_nothing_is_entered() -> None:
    stage = MemoryStage()
    assert stage.stage.workshop is NO_WORKSHOP
    assert images.entries(stage.stage) == ()


def test_a_thing_that_was_not_tried_is_not_counted_as_stopped() -> None:
    wanted = frozenset({"measurement"})
    left = Result(tries="x", wanted=wanted, not_run="there is no emulator")
    assert not left.is_stopped
    one = other_command_line.ATTACK
    assert command._row(one, [left])["outcome"] == "NOT STOPPED"
    done = Result(tries="y", wanted=wanted, outcome=replace(left.outcome, stopped_by=wanted))
    row = command._row(one, [done, left])
    assert row["outcome"] == "stopped"
    assert [trial["not_run"] for trial in row["trials"]] == ["", "there is no emulator"]
    first, second = command._lines(one, [done, left], "stopped")
    assert first.endswith("stopped (1 of 1; 1 not run here)")
    assert second.strip() == "not run here: there is no emulator"
