"""What a CVM logs, and nothing else: a session's process has no log of its own, only a channel to its parent.

The parent takes an event only if it was declared, has exactly its fields, each of its type and in bounds (`core.events.decode_event`). So a process
that was taken over by an answer still cannot write text into a log.
"""

from enum import Enum

from sottovoce.core.errors import SottovoceError
from sottovoce.core.events import Event, event

__all__ = [
    "BackendLost",
    "Code",
    "Party",
    "SessionClosed",
    "SessionOpened",
    "Started",
    "WorkerLost",
    "code_of",
]


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

    CODES = frozenset({"signal", "status"})

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
