"""Each bit of POLICY and PLATFORM_INFO changed in a signed report, one at a time (row 9)."""

from dataclasses import replace
from typing import Final

from sottovoce.attacks import weak_guest_policy, weak_platform
from sottovoce.attacks.attack import Attack, Trial
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence, Platform

__all__ = ["ATTACK"]

# AMD 56860 table 23: offsets of the two words, 64 bits each, little-endian
_WORDS: Final = (("policy", 0x008, weak_guest_policy.JUDGED), ("platform", 0x040, weak_platform.JUDGED))
_BITS: Final = 64


def _trial(word: str, offset: int, bit: int, check: str) -> Trial:
    def forge(stage: Stage, target: Target) -> Evidence:
        evidence = stage.evidence(target)
        report = bytearray(evidence.platform.report)
        report[offset + bit // 8] ^= 1 << bit % 8
        return replace(evidence, platform=Platform(kind=evidence.platform.kind, report=bytes(report)))

    judged = {check} if check else set()
    return Trial(tries=f"{word} bit {bit}", stopped_by=frozenset({"signature", *judged}), forge=forge)


ATTACK: Final = Attack(
    name="flipped-after-signing",
    row="9",
    who="anybody between the CVM and the device, without any key",
    tries="each of the 128 bits of guest policy and platform information changed in a signed report, one at a time",
    stopped_by=("signature",),
    trials=tuple(
        _trial(word, offset, bit, judged.get(bit, ""))
        for word, offset, judged in _WORDS
        for bit in range(_BITS)
    ),
)
