"""The one way out for log events: a session's process has no log of its own, only a channel to its parent.

The parent takes an event only if it was declared (core.events), has exactly its fields, each of its type and in
bounds. So a process that was taken over by an answer still cannot write text into a log.
"""

import dataclasses
import json
from enum import Enum
from typing import Any, Final

from sottovoce.core.errors import DecodeError, SottovoceError
from sottovoce.core.events import Event, EventLog, event

__all__ = [
    "BackendLost",
    "Code",
    "Party",
    "SessionClosed",
    "SessionOpened",
    "Started",
    "WorkerLost",
    "code_of",
    "decode_event",
    "encode_event",
]

_LIMIT: Final = 1024
_MAX: Final = 1 << 40


class Code(Enum):
    """How something ended: the codes of core.errors, and a few of our own."""

    CLOSED = "closed"
    CUT = "cut"
    IDLE = "idle"
    TOO_LONG = "too-long"
    STOPPED = "stopped"
    TLS = "peer.tls"
    DECODE = "peer.decode"
    LIMIT = "peer.limit"
    PROTOCOL = "peer.protocol"
    CRYPTO = "peer.crypto"
    VERIFICATION = "verification"
    UNAVAILABLE = "unavailable"
    ERROR = "error"


class Party(Enum):
    """A role, or nobody in particular."""

    ORCHESTRATOR = "orchestrator"
    PREDICTOR = "predictor"
    GUARD = "guard"
    OTHER = "other"


@event
class Started(Event):
    """The CVM serves."""

    role: Party
    warm_ms: int


@event
class SessionOpened(Event):
    """The handshake is complete and the peer is verified where it has to be."""

    role: Party
    handshake_ms: int


@event
class SessionClosed(Event):
    """A session's process ends. Sizes are classes: bits of the number of bytes. CPU time is from its connection on."""

    role: Party
    code: Code
    requests: int
    duration_ms: int
    cpu_ms: float
    received_bits: int
    sent_bits: int


@event
class BackendLost(Event):
    """A session's process could not reach or verify a back end."""

    party: Party
    code: Code


@event
class WorkerLost(Event):
    """A session's process ended by itself, by a signal, or was ended by its parent."""

    role: Party
    signal: int
    status: int


def code_of(error: SottovoceError) -> Code:
    """The nearest code that may be logged."""
    code = error.code
    while code:
        if code in Code._value2member_map_:
            return Code(code)
        code = code.rpartition(".")[0]
    return Code.ERROR


def encode_event(entry: Event) -> bytes:
    """`entry` for the channel: what the log would write."""
    lines: list[str] = []
    EventLog(lines.append).emit(entry)
    return lines[0].encode()


def decode_event(data: bytes) -> Event:
    """The declared event in `data`.

    Raises:
        DecodeError: not declared, another field, another type, out of bounds.
    """
    try:
        value = json.loads(data) if len(data) <= _LIMIT else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("event"), str):
        raise DecodeError("this is not a log event")
    kind = _declared(value.pop("event"))
    if kind is None or set(value) != {field.name for field in dataclasses.fields(kind)}:
        raise DecodeError("this log event is not declared so")
    fields = {f.name: _field(f.type, value[f.name]) for f in dataclasses.fields(kind)}
    return kind(**fields)  # type: ignore[no-any-return]


def _declared(name: str) -> Any:
    # `@event` makes the class anew, with slots; the one before may still be there.
    kinds = (kind for kind in Event.__subclasses__() if kind.__name__ == name)
    return next((kind for kind in kinds if "__slots__" in vars(kind)), None)


def _field(kind: Any, value: Any) -> Any:
    if issubclass(kind, Enum):
        known = {member.value: member for member in kind}
        if isinstance(value, str | int) and value in known:
            return known[value]
    elif type(value) is kind and (kind is bool or abs(value) <= _MAX):
        return value
    raise DecodeError("a log event's field has a value that is not allowed")
