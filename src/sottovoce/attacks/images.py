"""The image that attacks change: built here of the locked packages, its launch digest in a release of the world's log.

Where it cannot be built, attacks say why, and do what they can without it.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sottovoce.attacks.attack import Outcome, Result, Trial
from sottovoce.attest.evidence import Evidence
from sottovoce.core.errors import VerificationError
from sottovoce.image.build import Image, Materials, build, materials
from sottovoce.image.launch import PROCESSORS, launch_digest
from sottovoce.simulator.configs import encode_settings
from sottovoce.simulator.emulator import PROCESSOR
from sottovoce.simulator.testing import EvidenceWorld, settings_of

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab
    from sottovoce.attacks.stage import Stage, Target
    from sottovoce.attacks.workshop import Workshop
    from sottovoce.tlog.entries import Release

__all__ = ["Built", "built", "digest", "entries", "flipped", "measured", "trial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image, and what it was made of."""

    made_of: Materials
    settings: bytes
    image: Image

    def again(self, made_of: Materials) -> Image:
        """The same image of other materials."""
        return build(made_of, self.settings)


@functools.lru_cache(maxsize=1)
def built(workshop: "Workshop") -> Built:
    """The image as it is published, of an orchestrator.

    Raises:
        SottovoceError: it cannot be built.
    """
    made_of = materials(workshop.lock, workshop.packages, workshop.project / "src")
    settings = encode_settings(settings_of(EvidenceWorld(), "orchestrator"))
    return Built(made_of=made_of, settings=settings, image=build(made_of, settings))


def digest(image: Image) -> bytes:
    """Its launch digest, 48 bytes, as a processor would report it."""
    return launch_digest(image.firmware, image.booted, processor=PROCESSORS[PROCESSOR], count=1)


def flipped(data: bytes) -> bytes:
    """One bit of the byte in the middle is another one."""
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def _release(stage: "Stage") -> "Release":
    return replace(stage.release, measurements=(digest(built(stage.workshop).image).hex(),))


def entries(stage: "Stage") -> tuple[bytes, ...]:
    """The release of the image, for the log; none where it cannot be built."""
    return () if stage.workshop.missing else (_release(stage).encode(),)


def trial(tries: str, image: Image) -> Trial:
    """A device is shown what a processor reports that has launched this image, with the release of the published one."""
    measurement = digest(image)

    def forge(stage: "Stage", target: "Target") -> Evidence:
        genuine = stage.evidence(target, measurement=measurement)
        return replace(genuine, release=stage.prove(_release(stage).encode()))

    return Trial(tries=tries, stopped_by=frozenset({"measurement"}), forge=forge)


def measured(lab: "Lab", changes: Mapping[str, Callable[[Built], Image]]) -> Iterator[Result]:
    """A device's refusal of each changed image.

    Raises:
        VerificationError: it refuses the published one: then no refusal means anything.
    """
    wanted = frozenset({"measurement"})
    if lab.workshop.missing:
        for tries in changes:
            yield Result(tries=tries, wanted=wanted, not_run=lab.workshop.missing)
        return
    published = built(lab.workshop)
    control = lab.show(trial("the published image", published.image))
    if not control.read:
        raise VerificationError(
            "the published image was refused", check=", ".join(sorted(control.stopped_by))
        )
    for tries, change in changes.items():
        image = change(published)
        outcome = lab.show(trial(tries, image))
        other = digest(image) != digest(published.image)
        says = "another launch digest" if other else "the published launch digest"
        yield Result(
            tries=tries,
            wanted=wanted,
            outcome=Outcome(stopped_by=outcome.stopped_by, read=outcome.read, says=says),
        )
