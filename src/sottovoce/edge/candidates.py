"""The hosts that a device drew for its session (protocol section 2): `Candidates: id` or `Candidates: id, id`."""

import re
from typing import Final

from sottovoce.core.errors import ProtocolError

__all__ = ["CandidatesError", "parse_candidates"]

_ID: Final = rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_GRAMMAR: Final = re.compile(rb"(" + _ID + rb")(?:[ \t]*,[ \t]*(" + _ID + rb"))?")


class CandidatesError(ProtocolError):
    """The candidates are missing or malformed, or no host of this router is among them."""

    code = "peer.protocol.candidates"


def parse_candidates(value: bytes | None) -> tuple[str, ...]:
    """One host id, or two that differ.

    Raises:
        CandidatesError: missing, or outside the grammar.
    """
    match = _GRAMMAR.fullmatch(value or b"")
    if match is None or match[1] == match[2]:
        raise CandidatesError("the candidates are missing or malformed")
    return tuple(part.decode() for part in match.groups() if part)
