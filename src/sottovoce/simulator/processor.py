"""A software security processor: signs real version-5 reports with a simulated chip's key.

The key stays in the process of the simulated machine; a CVM reaches it through a socket, and can say nothing but
which 64 bytes of report data it wants. The measurement is the machine's, taken at launch.
"""

import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from sottovoce.attest.snp.layout import REPORT_SIZE, SIGNED_SIZE, Tcb
from sottovoce.core.errors import UsageError
from sottovoce.simulator.pki import SimulatedChip

__all__ = ["GOOD_PLATFORM", "GOOD_POLICY", "ReportFields", "SimulatedProcessor", "sign_report"]

# AMD 56860 table 10: reserved bit 17, single socket, AES-256-XTS, RAPL off, ciphertext hiding; ABI 0.31 or newer
GOOD_POLICY: Final = 1 << 17 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 24 | 31
# Table 24: ECC, RAPL off, ciphertext hiding, alias check complete
GOOD_PLATFORM: Final = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5
_GENOA: Final = (0x19, 0x11, 1)
_REPORT_DATA: Final = 64
_REPORT_ID: Final = 32
_FIRMWARE: Final = bytes([31, 55, 1])  # build, minor, major


def _tcb_bytes(tcb: Tcb) -> bytes:
    return bytes([tcb.bootloader, tcb.tee, 0, 0, 0, 0, tcb.snp, tcb.microcode])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFields:
    """What a report says beyond its report data and measurement; tests change single fields."""

    version: int = 5
    policy: int = GOOD_POLICY
    vmpl: int = 0
    platform_info: int = GOOD_PLATFORM
    key_flags: int = 0
    chip_id: bytes
    reported_tcb: Tcb
    committed_tcb: Tcb


def sign_report(chip: SimulatedChip, body: bytes) -> bytes:
    """The report (1,184 bytes) whose signed part is `body` (672 bytes), whatever that says."""
    r, s = decode_dss_signature(chip.key.sign(body, ec.ECDSA(hashes.SHA384())))
    signature = r.to_bytes(72, "little") + s.to_bytes(72, "little")
    return (body + signature).ljust(REPORT_SIZE, b"\0")


class SimulatedProcessor:
    """Signs reports for one launched CVM, one at a time. `delay` makes it as slow as a real one: seconds a report, at least.

    Attributes:
        reports: reports made.
    """

    def __init__(
        self,
        chip: SimulatedChip,
        measurement: bytes,
        *,
        change: Callable[[ReportFields], ReportFields] = lambda fields: fields,
        delay: float = 0.0,
    ) -> None:
        self.reports = 0
        self._delay = delay
        self._chip = chip
        self._measurement = measurement
        fields = ReportFields(chip_id=chip.chip_id, reported_tcb=chip.tcb, committed_tcb=chip.tcb)
        self._fields = change(fields)
        self._report_id = os.urandom(_REPORT_ID)  # drawn by the firmware at launch

    def report(self, report_data: bytes) -> bytes:
        """A report over 64 bytes of report data: 1,184 bytes, layout as in `attest.snp.layout`."""
        if len(report_data) != _REPORT_DATA:
            raise UsageError("report data has 64 bytes")
        due = time.monotonic() + self._delay
        report = self._sign(report_data)
        time.sleep(max(0.0, due - time.monotonic()))
        self.reports += 1
        return report

    def _sign(self, report_data: bytes) -> bytes:
        f, tcb = self._fields, _tcb_bytes
        body = bytearray(SIGNED_SIZE)
        struct.pack_into("<IIQ", body, 0x000, f.version, 0, f.policy)
        struct.pack_into(
            "<II8sQI", body, 0x030, f.vmpl, 1, tcb(f.committed_tcb), f.platform_info, f.key_flags
        )
        struct.pack_into("<64s48s", body, 0x050, report_data, self._measurement)
        body[0x140:0x160] = self._report_id
        body[0x160:0x180] = b"\xff" * _REPORT_ID  # REPORT_ID_MA: no migration agent
        struct.pack_into("<8s3B", body, 0x180, tcb(f.reported_tcb), *_GENOA)
        struct.pack_into("<64s8s", body, 0x1A0, f.chip_id, tcb(f.committed_tcb))
        struct.pack_into("<3sx3sx8s", body, 0x1E8, _FIRMWARE, _FIRMWARE, tcb(f.committed_tcb))
        return sign_report(self._chip, bytes(body))
