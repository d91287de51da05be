"""An answer that is cut short, in order, is taken for a whole one (part B)."""

import itertools
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import Attack, Result

if TYPE_CHECKING:
    from sottovoce.attacks.between import Spoil
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK", "records"]

# RFC 8446 section 5.1: type, version, length
_HEADER: Final = struct.Struct(">BHH")
_ANSWER: Final = 1
"""The CVM's second turn; its first is handshake and evidence."""
_AT: Final = 2
"""The record at which something is done: the answer's head has come then, and its end has not, however many of its frames the later ones hold."""


def records(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The TLS records in a stream, one by one."""
    buffer = b""
    for piece in pieces:
        buffer += piece
        while len(buffer) >= _HEADER.size:
            end = _HEADER.size + _HEADER.unpack_from(buffer)[2]
            if len(buffer) < end:
                break
            yield buffer[:end]
            buffer = buffer[end:]


def _spoil(change: Callable[[Iterator[bytes]], Iterator[bytes]]) -> "Spoil":
    def spoil(number: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        return change(records(pieces)) if number == _ANSWER else pieces

    return spoil


def _cut(found: Iterator[bytes]) -> Iterator[bytes]:
    return itertools.islice(found, _AT)


def _cut_within(found: Iterator[bytes]) -> Iterator[bytes]:
    yield from itertools.islice(found, _AT)
    last = next(found)
    yield last[: len(last) // 2]


def _nothing(_: Iterator[bytes]) -> Iterator[bytes]:
    return iter(())


def _one_out(found: Iterator[bytes]) -> Iterator[bytes]:
    yield from itertools.islice(found, _AT)
    next(found)
    yield from found


def _one_twice(found: Iterator[bytes]) -> Iterator[bytes]:
    yield from itertools.islice(found, _AT)
    again = next(found)
    yield from (again, again)
    yield from found


def _two_swapped(found: Iterator[bytes]) -> Iterator[bytes]:
    yield from itertools.islice(found, _AT)
    first, second = next(found), next(found)
    yield from (second, first)
    yield from found


_CUT, _FORGED = "peer.decode", "peer.tls"
_TRIALS: Final = (
    (f"an orderly end after {_AT} records", _cut, _CUT),
    ("an orderly end within a record", _cut_within, _CUT),
    ("an orderly end before the first record", _nothing, _CUT),
    ("one record taken out", _one_out, _FORGED),
    ("one record sent twice", _one_twice, _FORGED),
    ("two records swapped", _two_swapped, _FORGED),
)


def _live(lab: "Lab") -> Iterator[Result]:
    for tries, change, code in _TRIALS:
        yield Result(tries=tries, wanted=frozenset({code}), outcome=lab.spoil(_spoil(change)))


ATTACK: Final = Attack(
    name="truncated-answer",
    row="B",
    who="router or gateway, which carry TLS records and say themselves where the answer ends",
    tries="an answer cut short, with every layer below closed in order; records held back, repeated, swapped",
    stopped_by=(_CUT, _FORGED),
    live=_live,
)
