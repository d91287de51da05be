"""What evidence is bound to: this connection and no other (protocol section 5).

leaf        = SHA-256(0x00 ‖ label ‖ exporter ‖ SHA-256(SPKI))
root        = RFC 6962 head over the leaves of the sessions that arrived together
REPORT_DATA = SHA-512("sottovoce/1 report" ‖ root)
GPU nonce   = SHA-256("sottovoce/1 accelerators" ‖ root)
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from sottovoce.core.errors import UsageError
from sottovoce.tlog.merkle import root_from_path

__all__ = ["accelerator_nonce", "batch_root", "peer_leaf", "report_data", "session_leaf"]

_SESSION: Final = b"sottovoce/1 session"
_PEER: Final = b"sottovoce/1 peer"
_REPORT: Final = b"sottovoce/1 report"
_ACCELERATORS: Final = b"sottovoce/1 accelerators"
_EXPORTER: Final = 32


def _leaf(label: bytes, exporter: bytes, spki: bytes) -> bytes:
    if len(exporter) != _EXPORTER or not spki:
        raise UsageError("a binding needs a 32-byte exporter and a public key")
    return hashlib.sha256(b"\x00" + label + exporter + hashlib.sha256(spki).digest()).digest()


def session_leaf(exporter: bytes, spki: bytes) -> bytes:
    """The leaf of a server's evidence: 32 bytes, from the exporter (32 bytes) and the server's SPKI (DER)."""
    return _leaf(_SESSION, exporter, spki)


def peer_leaf(exporter: bytes, spki: bytes) -> bytes:
    """The leaf of a client's evidence: the same values under another label, so that no evidence can be sent back."""
    return _leaf(_PEER, exporter, spki)


def batch_root(leaf: bytes, *, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The head of the batch that holds `leaf`.

    Raises:
        InclusionError: the path has the wrong length or form.
    """
    return root_from_path(leaf=leaf, index=index, size=size, path=path)


def report_data(root: bytes) -> bytes:
    """REPORT_DATA, 64 bytes."""
    return hashlib.sha512(_REPORT + root).digest()


def accelerator_nonce(root: bytes) -> bytes:
    """The nonce that every GPU and switch of these sessions answers, 32 bytes."""
    return hashlib.sha256(_ACCELERATORS + root).digest()
