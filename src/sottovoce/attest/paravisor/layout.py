"""The paravisor's report, as it stands in the virtual TPM's NV index 0x01400001 (OpenHCL, IGVM attestation request, "GET" protocol).

    0x000 signature "HCLA"      0x010 status u32, zero       0x4C0 data_size u32, from here to the end of the claims
    0x004 version u32, 1 or 2   0x014 reserved, 12 zeros     0x4C4 version u32, 1 or 2
    0x008 report_size u32       0x020 hardware report 1184   0x4C8 report_type u32: 2 SNP, 4 TDX
    0x00C request_type u32, 2                                0x4CC hash_type u32: 1 SHA-256
                                                             0x4D0 claims_size u32
    0x4D4 version 2 only: capabilities u32, what the paravisor asks its host's agent for
    then  runtime claims (JSON), then zeros to the end of the NV index

All integers are little-endian. Of all this the processor signs the hardware report alone, and that holds the digest of the claims.
"""

import struct
from dataclasses import dataclass
from typing import Final

from sottovoce.attest.snp.layout import REPORT_SIZE
from sottovoce.core.errors import DecodeError

__all__ = ["HCL_SIGNATURE", "HclReport", "HclVersionError", "is_hcl_report"]

HCL_SIGNATURE: Final = b"HCLA"
_HEADER: Final = struct.Struct("<4sIIII12s")
_DATA: Final = struct.Struct("<IIIII")
_DATA_AT: Final = _HEADER.size + REPORT_SIZE
_CLAIMS_AT: Final = _DATA_AT + _DATA.size
_VERSIONS: Final = (1, 2)
_AK_CERT_REQUEST: Final = 2  # the request whose form the NV index holds
_EXTENSION: Final = {1: 0, 2: 4}
"""Version of the data → bytes between them and the claims."""
_CAPABILITIES: Final = 0b1_1111
"""Error codes, retries, unsealing skipped, a key wrapping of 384 bits, a launch endorsement. They say nothing of the CVM."""
_KINDS: Final = {2: "sev-snp", 4: "tdx"}
_SHA256: Final = 1
_LIMIT: Final = 16 * 1024
"""The NV index has 2,600 bytes."""
# Intel TDX module ABI, TDREPORT_STRUCT: REPORTMACSTRUCT holds REPORTDATA; the structure has 1,024 bytes.
_TDREPORT: Final = 1024
_TDREPORT_TYPE: Final = 0x81
_TDREPORT_DATA: Final = slice(128, 192)


class HclVersionError(DecodeError):
    """A paravisor's report of a version or type that this code does not know."""

    code = "peer.decode.hcl-version"


def is_hcl_report(data: bytes) -> bool:
    """Whether `data` begins like a paravisor's report."""
    return data[: len(HCL_SIGNATURE)] == HCL_SIGNATURE


@dataclass(frozen=True, slots=True, kw_only=True)
class HclReport:
    """A parsed report; nothing is verified yet.

    Attributes:
        kind: "sev-snp" or "tdx".
        hardware: the SNP report (1,184 bytes) or the TDREPORT (1,024 bytes). A TDREPORT is no quote: only its own machine can verify it.
        claims: the runtime claims, byte for byte as they were hashed.
    """

    version: int
    kind: str
    hardware: bytes
    claims: bytes

    @classmethod
    def parse(cls, data: bytes) -> "HclReport":
        """Parse a report, with or without the zeros that fill the NV index.

        Raises:
            HclVersionError: a version, request, report or hash type that is not known; SHA-256 is the one hash.
            DecodeError: not such a report, a wrong size, or something else than zeros in reserved bytes and after the claims.
        """
        if not is_hcl_report(data) or not _CLAIMS_AT < len(data) <= _LIMIT:
            raise DecodeError("this is not a paravisor's report")
        _, version, size, request, status, reserved = _HEADER.unpack_from(data)
        data_size, data_version, kind, hash_type, claims_size = _DATA.unpack_from(data, _DATA_AT)
        if version not in _VERSIONS or request != _AK_CERT_REQUEST or data_version not in _EXTENSION:
            raise HclVersionError("the paravisor's report is of an unknown version")
        if kind not in _KINDS:
            raise HclVersionError("the paravisor's report holds an unknown kind of hardware report")
        if hash_type != _SHA256:
            raise HclVersionError("the paravisor's report hashes its claims with something else than SHA-256")
        start = _CLAIMS_AT + _EXTENSION[data_version]
        end = start + claims_size
        if not claims_size or end > len(data) or size != end or data_size != end - _DATA_AT:
            raise DecodeError("the paravisor's report has sizes that do not fit one another")
        capabilities = int.from_bytes(data[_CLAIMS_AT:start], "little")
        if status or any(reserved) or any(data[end:]) or capabilities & ~_CAPABILITIES:
            raise DecodeError("the paravisor's report has reserved bytes that are not zero")
        return cls(
            version=version,
            kind=_KINDS[kind],
            hardware=_hardware(data[_HEADER.size : _DATA_AT], _KINDS[kind]),
            claims=data[start:end],
        )

    @property
    def td_report_data(self) -> bytes:
        """What the TDREPORT holds as REPORTDATA, 64 bytes.

        Raises:
            DecodeError: this report holds no TDREPORT.
        """
        if self.kind != "tdx":
            raise DecodeError("the paravisor's report holds no TDREPORT")
        return self.hardware[_TDREPORT_DATA]


def _hardware(field: bytes, kind: str) -> bytes:
    if kind == "sev-snp":
        return field
    if field[0] != _TDREPORT_TYPE or any(field[_TDREPORT:]):
        raise DecodeError("the paravisor's report does not hold the TDREPORT that it names")
    return field[:_TDREPORT]
