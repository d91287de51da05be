"""The socket to the host: papers for every platform, and reports where the processor is a simulated one.

request   u8 operation ‖ 64 bytes of report data (operation REPORT only)
answer    u32 length ‖ bytes
"""

import socket
import struct
from typing import Final

from sottovoce.attest.simulated import SIMULATED_KIND
from sottovoce.core.errors import DecodeError, UnavailableError
from sottovoce.tee.collectors.base import PROCESSOR, Bundle, check_report_data

__all__ = ["ENDORSEMENTS", "LENGTH", "REPORT", "HostChannel", "SimulatedCollector"]

REPORT, ENDORSEMENTS = 1, 2
LENGTH: Final = struct.Struct(">I")
_LIMIT: Final = 64 * 1024


class HostChannel:
    """This CVM's end of the socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

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
                # What follows would be taken for the next answer's length.
                self._channel.close()
                raise DecodeError("the host's answer is longer than its limit")
            return self._read(length)
        except OSError:
            raise UnavailableError("the security processor does not answer", party=PROCESSOR) from None

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self._channel.recv(count - len(data))
            if not piece:
                raise UnavailableError("the security processor is gone", party=PROCESSOR)
            data += piece
        return bytes(data)


class SimulatedCollector(HostChannel):
    """The software security processor at the other end of the socket."""

    kind = SIMULATED_KIND

    def report(self, report_data: bytes) -> bytes:
        """A report over 64 bytes of report data: 1,184 bytes.

        Raises:
            UnavailableError: the security processor does not answer.
        """
        return self._ask(bytes([REPORT]) + check_report_data(report_data))
