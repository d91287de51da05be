"""The exception tree.

    SottovoceError
    ├── UsageError            our own caller did something that the interface does not allow
    │   └── ConfigError       a configuration or state file is missing, unreadable or wrong
    ├── PeerError             the other side sent something that is not allowed
    │   ├── DecodeError       bytes that do not parse
    │   ├── LimitError        more than the limits allow
    │   ├── CryptoError       a signature, tag or proof that does not verify
    │   └── ProtocolError     well-formed, but not allowed now
    ├── VerificationError     a check of protocol section 6 failed: nothing was sent
    ├── RefusedError          the user's settings, or a party's rules, say no
    └── UnavailableError      a party could not be reached or gave no answer

Every class has a stable `code`. Messages never hold a peer's or a user's data, a token or a key.
"""

from typing import ClassVar

__all__ = [
    "ConfigError",
    "CryptoError",
    "DecodeError",
    "LimitError",
    "PeerError",
    "ProtocolError",
    "RefusedError",
    "SottovoceError",
    "UnavailableError",
    "UsageError",
    "VerificationError",
]


class SottovoceError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes:
        code: stable, dotted, for programs; it may be logged anywhere.
        hint: what the reader can do about it, or an empty string.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(SottovoceError):
    """Our own caller did something that the interface does not allow."""

    code = "usage"


class ConfigError(UsageError):
    """A configuration or state file is missing, unreadable or wrong."""

    code = "config"


class PeerError(SottovoceError):
    """The other side sent something that is not allowed."""

    code = "peer"


class DecodeError(PeerError):
    """Bytes that do not parse. The message says which structure, never which bytes."""

    code = "peer.decode"


class LimitError(PeerError):
    """More than the limits allow."""

    code = "peer.limit"


class CryptoError(PeerError):
    """A signature, an authentication tag or a proof does not verify."""

    code = "peer.crypto"


class ProtocolError(PeerError):
    """Well-formed, but not allowed at this point."""

    code = "peer.protocol"


class VerificationError(SottovoceError):
    """A check of protocol section 6 failed, so nothing of the user's was sent.

    Attributes:
        check: the stable id of the check that failed first.
    """

    code = "verification"

    def __init__(self, message: str, *, check: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.check = check


class RefusedError(SottovoceError):
    """The user's settings, or a party's rules, say no."""

    code = "refused"


class UnavailableError(SottovoceError):
    """A party could not be reached, or gave no answer.

    Attributes:
        party: who: `relay`, `gateway`, `router`, `issuer`, `log`, `directory`, `orchestrator`, …
    """

    code = "unavailable"

    def __init__(self, message: str, *, party: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.party = party
