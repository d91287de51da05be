"""What every collector gives: a report over 64 bytes, and the papers that go with it.

The papers (certificates, log entries and proofs) come from the host: nothing in them is trusted here, the verifier checks all.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from sottovoce.attest.evidence import Endorsements, Logged
from sottovoce.core import cbor
from sottovoce.core.errors import DecodeError, UsageError

__all__ = ["PROCESSOR", "REPORT_DATA", "Bundle", "Collector", "check_report_data"]

REPORT_DATA: Final = 64
PROCESSOR: Final = "processor"
"""The party that an UnavailableError of a collector names."""
_LIMIT: Final = 64 * 1024
_MEMBERS: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What the host says about its machine and this release."""

    endorsements: Endorsements
    release: Logged
    host: Logged

    def encode(self) -> bytes:
        """CBOR for the socket."""
        e, r, h = self.endorsements, self.release, self.host
        return cbor.encode([e.vcek, e.ask, e.crl, r.entry, r.proof, h.entry, h.proof])

    @classmethod
    def decode(cls, data: bytes) -> "Bundle":
        """Parse what `encode` gives.

        Raises:
            DecodeError: malformed.
        """
        value = cbor.decode(data, limit=_LIMIT)
        if not isinstance(value, list) or [type(item) for item in value] != [bytes] * _MEMBERS:
            raise DecodeError("the host's bundle is malformed")
        vcek, ask, crl, release, release_proof, host, host_proof = value
        return cls(
            endorsements=Endorsements(vcek=vcek, ask=ask, crl=crl),
            release=Logged(entry=release, proof=release_proof),
            host=Logged(entry=host, proof=host_proof),
        )


class Collector(Protocol):
    """One kind of hardware. Its methods block."""

    @property
    def kind(self) -> str:
        """The platform kind of the evidence, a key of `attest.evidence.PLATFORMS`."""

    def report(self, report_data: bytes) -> bytes:
        """A report over 64 bytes of report data.

        Raises:
            UnavailableError: the hardware gives none.
        """

    def bundle(self) -> Bundle:
        """The papers, as fresh as the host has them.

        Raises:
            UnavailableError: there are none.
            DecodeError: they are malformed.
        """


def check_report_data(report_data: bytes) -> bytes:
    """`report_data`, if it has the length that every platform signs: 64 bytes.

    Raises:
        UsageError: it has another length.
    """
    if len(report_data) != REPORT_DATA:
        raise UsageError("report data has 64 bytes")
    return report_data
