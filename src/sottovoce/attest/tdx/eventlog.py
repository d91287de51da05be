"""The log of what a TD measured as it started (UEFI 2.11 section 38.4, CCEL), replayed.

    header event:  register u32, type u32 (3: no action), digest 20, size u32, the event: "Spec ID Event03", algorithms (not looked at)
    every other:   register u32 (1 to 4: RTMR0 to RTMR3), type u32, count u32, count times (algorithm u16, digest), size u32, event

The form is that of the TCG PC Client Platform Firmware Profile, section 10.2. The log is followed by 0xFF or zeros to the end of its
memory. Nobody signs it: it is worth what the registers that it leads to are worth.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from sottovoce.core.errors import DecodeError

__all__ = ["MAX_EVENT_LOG", "EventLog"]

MAX_EVENT_LOG: Final = 1024 * 1024
_MAX_EVENTS: Final = 4096
_HEAD: Final = struct.Struct("<II20sI")
_EVENT: Final = struct.Struct("<III")
_ALGORITHM: Final = struct.Struct("<H")
_DIGEST_AND_SIZE: Final = struct.Struct("<48sI")
_SIGNATURE: Final = b"Spec ID Event03\0"
_NO_ACTION: Final = 3
_SHA384: Final = 0x0C
_DIGEST: Final = 48
_REGISTERS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """A parsed log.

    Attributes:
        events: how many there are.
        registers: RTMR0 to RTMR3 as they are after all events, 48 bytes each.
    """

    events: int
    registers: tuple[bytes, ...]

    @classmethod
    def parse(cls, data: bytes) -> "EventLog":
        """Parse a log and replay it.

        Raises:
            DecodeError: too long, cut short, with another digest than SHA-384, or followed by anything but filling.
        """
        if len(data) > MAX_EVENT_LOG:
            raise DecodeError("the event log is longer than its limit")
        (register, kind, _, size), at = _unpack(_HEAD, data, 0)
        if kind != _NO_ACTION or not data.startswith(_SIGNATURE, at) or at + size > len(data):
            raise DecodeError("this is not an event log of a TD")
        at += size
        registers, events = [bytes(_DIGEST)] * _REGISTERS, 0
        while not _filling(data, at):
            register, digest, at = _event(data, at)
            events += 1
            if events > _MAX_EVENTS:
                raise DecodeError("the event log has too many events")
            if digest is not None:
                registers[register - 1] = hashlib.sha384(registers[register - 1] + digest).digest()
        return cls(events=events, registers=tuple(registers))


def _unpack(form: struct.Struct, data: bytes, at: int) -> tuple[tuple, int]:  # type: ignore[type-arg]  # as struct says
    if at + form.size > len(data):
        raise DecodeError("the event log is cut short")
    return form.unpack_from(data, at), at + form.size


def _filling(data: bytes, at: int) -> bool:
    """Whether there are no more events: no event has register 0 or 0xFFFFFFFF."""
    if data[at : at + 4] not in (b"", b"\0\0\0\0", b"\xff\xff\xff\xff"):
        return False
    rest = data[at:]
    if rest.strip(rest[:1]):
        raise DecodeError("the event log is followed by something else")
    return True


def _event(data: bytes, at: int) -> tuple[int, bytes | None, int]:
    """The register and what it is extended with, if it is, and where the next event begins."""
    (register, kind, count), at = _unpack(_EVENT, data, at)
    if not 1 <= register <= _REGISTERS or count != 1:
        raise DecodeError("the event log has an event for an unknown register, or with several digests")
    (algorithm,), at = _unpack(_ALGORITHM, data, at)
    if algorithm != _SHA384:
        raise DecodeError("the event log has a digest that is not SHA-384")
    (digest, size), at = _unpack(_DIGEST_AND_SIZE, data, at)
    if at + size > len(data):
        raise DecodeError("the event log is cut short")
    return register, None if kind == _NO_ACTION else digest, at + size
