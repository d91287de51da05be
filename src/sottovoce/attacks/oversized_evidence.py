"""Evidence that is long, nested or compressed, to exhaust the verifier (part B)."""

import gzip
import zlib
from typing import Final

from sottovoce.attacks.attack import Attack, Trial
from sottovoce.attacks.rogue import RogueServer
from sottovoce.attest.evidence import EVIDENCE_TYPE
from sottovoce.core import cbor
from sottovoce.core.limits import LIMITS

__all__ = ["ATTACK"]

_DEEP: Final = b"\x81" * (LIMITS.evidence - 64)
"""Arrays of one element, one in the other (RFC 8949 section 3.1: major type 4)."""
_GIGABYTE: Final = 1 << 30
_MANY: Final = b"\x9b" + (1 << 60).to_bytes(8, "big")
"""An array that declares 2^60 elements."""
_BOMB: Final = bytes(16 * 1024 * 1024)


def _trial(tries: str, evidence: bytes) -> Trial:
    return Trial(tries=tries, stopped_by=frozenset({"decode"}), forge=lambda *_: evidence)


def _inside(body: bytes) -> bytes:
    return cbor.encode([EVIDENCE_TYPE, body])


ATTACK: Final = Attack(
    name="oversized-evidence",
    row="B",
    who="anybody between the CVM and the device, without any key",
    tries="evidence beyond every limit, nested deeply, declared longer than it is, or compressed",
    stopped_by=("peer.limit", "decode"),
    trials=(
        Trial(
            tries="one byte more than 64 KiB",
            stopped_by=frozenset({"peer.limit"}),
            forge=lambda *_: bytes(LIMITS.evidence + 1),
        ),
        Trial(
            tries="declared as a gigabyte",
            stopped_by=frozenset({"peer.limit"}),
            forge=lambda *_: b"",
            server=lambda _: RogueServer(declared=_GIGABYTE),
        ),
        _trial("65,472 arrays, one in the other", _DEEP),
        _trial("the same within the record", _inside(_DEEP)),
        _trial("an array that declares 2^60 elements", _MANY),
        _trial("16 MiB of zeros, compressed with gzip", gzip.compress(_BOMB, mtime=0)),
        _trial("16 MiB of zeros, compressed with zlib, within the record", _inside(zlib.compress(_BOMB))),
    ),
)
