"""An answer that is cut short, in order, is taken for a whole one (part B)."""

import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import Attack, Result

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK", "records"]

# RFC 8446 section 5.1: type, version, length
_HEADER: Final = struct.Struct(">BHH")
_ANSWER: Final = 1
"""The CVM's second turn; its first is handshake and evidence."""


def records(data: bytes) -> list[bytes]:
    """The TLS records in `data`."""
    found = []
    while data:
        _, _, length = _HEADER.unpack_from(data)
        end = _HEADER.size + length
        found.append(data[:end])
        data = data[end:]
    return found


def _cut(keep: Callable[[list[bytes]], bytes]) -> Callable[[int, bytes], bytes]:
    def spoil(number: int, answer: bytes) -> bytes:
        return keep(records(answer)) if number == _ANSWER else answer

    return spoil


def _half(found: list[bytes]) -> bytes:
    return b"".join(found[: len(found) // 2])


def _within(found: list[bytes]) -> bytes:
    return b"".join(found)[:-100]


def _without_one(found: list[bytes]) -> bytes:
    middle = len(found) // 2
    return b"".join(found[:middle] + found[middle + 1 :])


def _live(lab: "Lab") -> Iterator[Result]:
    for tries, keep, code in (
        ("half of the answer's records, and then an orderly end", _half, "peer.decode"),
        ("the first three records only", lambda found: b"".join(found[:3]), "peer.decode"),
        ("no record at all", lambda _: b"", "peer.decode"),
        ("the last 100 bytes are missing", _within, "peer.decode"),
        ("one record taken out of the middle", _without_one, "peer.tls"),
    ):
        yield Result(tries=tries, wanted=frozenset({code}), outcome=lab.spoil(_cut(keep)))


ATTACK: Final = Attack(
    name="truncated-answer",
    row="B",
    who="router or gateway, which carry TLS records and say themselves where the answer ends",
    tries="the answer's end, or a part of it, held back, with every layer below closed in order",
    stopped_by=("peer.decode", "peer.tls"),
    live=_live,
)
