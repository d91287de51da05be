"""The attack lab's booted half (`sottovoce attack --boot`): PID 1 refuses what it names, a host finds one port, and the image as it is starts a CVM."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from emulator_kit import CACHE, found_programs
from sottovoce.attacks import (
    booted,
    changed_tables,
    extra_device,
    images,
    injected_environment,
    other_command_line,
)
from sottovoce.attacks.attack import Outcome
from sottovoce.attacks.images import built
from sottovoce.attacks.workshop import Workshop
from sottovoce.core.errors import VerificationError
from sottovoce.image.build import COMMAND_LINE, build

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]
CHANGES = {
    f"{module.ATTACK.name}: {tries}": (tries, change)
    for module in (injected_environment, changed_tables, extra_device, other_command_line)
    for tries, change in module.BOOTED.items()
}


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    programs = found_programs()
    here = Workshop.here(CACHE / "packages", ask=True)
    if here.missing:
        pytest.skip(f"no image: {here.missing}")
    return replace(here, programs=Path(programs.vsock).parent, unbooted="")


@pytest.fixture
def anew() -> Iterator[None]:
    """The control is looked at in this test, and in the next one."""
    booted._control.cache_clear()
    yield
    booted._control.cache_clear()


@pytest.mark.parametrize("name", CHANGES)
def test_pid_1_refuses(workshop: Workshop, name: str) -> None:
    tries, change = CHANGES[name]
    (result,) = booted.boots(workshop, {tries: change})
    assert result.is_stopped, result


def test_a_host_finds_one_port(workshop: Workshop) -> None:
    (result,) = booted.scan(workshop)
    assert result.is_stopped, result


def test_an_image_that_expects_the_change_boots_with_it(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = built(workshop)
    image = build(published.made_of, published.settings, command_line=f"{COMMAND_LINE} mitigations=off")
    monkeypatch.setattr(booted, "built", lambda _: replace(published, image=image))
    assert booted._boot(workshop, booted._unchanged).says == "it has started a CVM"
    assert images.digest(image) != images.digest(published.image)


@pytest.mark.usefixtures("anew")
def test_where_the_image_itself_does_not_boot_nothing_is_concluded(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Outcome(
        stopped_by=frozenset({booted.PID_1}), says="the kernel's command line is not the image's"
    )
    monkeypatch.setattr(booted, "_boot", lambda *_: refused)
    with pytest.raises(VerificationError):
        list(booted.boots(workshop, other_command_line.BOOTED))
