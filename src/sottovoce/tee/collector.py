"""Where a CVM gets its report and the public papers that go with it.

    request   u8 operation ‖ 64 bytes of report data (operation REPORT only)
    answer    u32 length ‖ bytes

On hardware the report comes from the kernel; here it comes from a software security processor behind a socket. The
papers (certificates, log entries and proofs) come from the host: nothing in them is trusted here, the verifier checks all.
"""

import socket
import struct
from dataclasses import dataclass
from typing import Final, Protocol

from sottovoce.attest.evidence import Endorsements, Logged
from sottovoce.core import cbor
from sottovoce.core.errors import DecodeError, UnavailableError, UsageError

__all__ = ["ENDORSEMENTS", "REPORT", "Bundle", "Collector", "SimulatedCollector"]

REPORT, ENDORSEMENTS = 1, 2
REPORT_DATA: Final = 64
LENGTH: Final = struct.Struct(">I")
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
    """One kind of hardware."""

    @property
    def kind(self) -> str:
        """The platform kind of the evidence, a key of `attest.evidence.PLATFORMS`."""

    def report(self, report_data: bytes) -> bytes:
        """A report over 64 bytes of report data."""

    def bundle(self) -> Bundle:
        """The papers, as fresh as the host has them."""


class SimulatedCollector:
    """The software security processor at the other end of `channel`."""

    kind = "simulated-snp"

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def report(self, report_data: bytes) -> bytes:
        """A report over 64 bytes of report data.

        Raises:
            UnavailableError: the security processor does not answer.
        """
        if len(report_data) != REPORT_DATA:
            raise UsageError("report data has 64 bytes")
        return self._ask(bytes([REPORT]) + report_data)

    def bundle(self) -> Bundle:
        """The papers.

        Raises:
            UnavailableError: the host does not answer.
            DecodeError: it answers nonsense.
        """
        return Bundle.decode(self._ask(bytes([ENDORSEMENTS])))

    def _ask(self, request: bytes) -> bytes:
        try:
            self._channel.sendall(request)
            (length,) = LENGTH.unpack(self._read(LENGTH.size))
            if length > _LIMIT:
                raise DecodeError("the host's answer is longer than its limit")
            return self._read(length)
        except OSError:
            raise UnavailableError("the security processor does not answer", party="processor") from None

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self._channel.recv(count - len(data))
            if not piece:
                raise UnavailableError("the security processor is gone", party="processor")
            data += piece
        return bytes(data)
