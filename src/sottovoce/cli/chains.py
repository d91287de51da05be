"""The certificates between root and chip that somebody brings along for `sottovoce verify`."""

from sottovoce.attest.certificates import Certificate
from sottovoce.attest.pem import certificates

__all__ = ["chain_certificates"]


def chain_certificates(data: bytes) -> tuple[bytes, ...]:
    """The certificates in a file, DER each. Each must be one: a verifier passes over a candidate that does not fit, and says nothing.

    Raises:
        DecodeError: one of them is none.
    """
    given = certificates(data)
    for one in given:
        Certificate.parse(one)
    return given
