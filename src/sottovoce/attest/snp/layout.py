"""The attestation report's bytes (AMD 56860, SEV-SNP firmware ABI 1.58, table 23, ATTESTATION_REPORT).

    0x000 version u32          0x030 vmpl u32            0x180 reported_tcb u64       0x1F0 launch_tcb u64
    0x004 guest_svn u32        0x034 signature_algo u32  0x188 cpuid fam, mod, step   0x1F8 launch_mit u64   (v5)
    0x008 policy u64           0x038 current_tcb u64     0x1A0 chip_id 64             0x200 current_mit u64  (v5)
    0x010 family_id 16         0x040 platform_info u64   0x1E0 committed_tcb u64      0x208 reserved
    0x020 image_id 16          0x048 key flags u32       0x1E8 current version 3      0x2A0 signature r 72, s 72
                               0x04C reserved u32        0x1EC committed version 3    0x330 reserved
    0x050 report_data 64, 0x090 measurement 48, 0x0C0 host_data 32, 0x0E0 id_key_digest 48, 0x110 author_key_digest 48,
    0x140 report_id 32, 0x160 report_id_ma 32

All integers are little-endian. Fields that a version does not have are reserved there and must be zero.
"""

import struct
from dataclasses import dataclass
from typing import Final

from sottovoce.core.errors import DecodeError

__all__ = [
    "CHIP_ID",
    "REPORT_SIZE",
    "SIGNED_SIZE",
    "TURIN_CHIP_ID",
    "Report",
    "ReportVersionError",
    "Tcb",
    "tcb_from",
]

REPORT_SIZE: Final = 1184
SIGNED_SIZE: Final = 0x2A0
"""The signature covers the bytes before it."""
CHIP_ID, TURIN_CHIP_ID = 64, 8
"""Bytes of a hardware id; on Turin the rest of the field is zero."""
VERSIONS: Final = (2, 3, 4, 5)
ECDSA_P384_SHA384: Final = 1
_HEAD: Final = struct.Struct("<IIQ16s16sIIQQII64s48s32s48s48s32s32sQ")
_CPUID_END: Final = 0x18B
_TAIL: Final = struct.Struct("<64sQ3sB3sBQQQ")
_TAIL_AT: Final = 0x1A0
_TAIL_END: Final = _TAIL_AT + _TAIL.size  # 0x208
_COMPONENT: Final = 72
_KEY_FLAGS: Final = 0b1_1111
"""AUTHOR_KEY_EN, MASK_CHIP_KEY and the three bits of SIGNING_KEY; the rest is reserved."""
_COMPONENT_USED: Final = 48
_TURIN_FAMILY: Final = 0x1A


class ReportVersionError(DecodeError):
    """A report of a version that this code does not know."""

    code = "peer.decode.report-version"


@dataclass(frozen=True, slots=True, kw_only=True, order=False)
class Tcb:
    """Security patch levels. `fmc` exists on Turin only."""

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None

    def at_least(self, floor: "Tcb") -> bool:
        """Whether every component is at or above the floor's."""
        return (
            self.bootloader >= floor.bootloader
            and self.tee >= floor.tee
            and self.snp >= floor.snp
            and self.microcode >= floor.microcode
            and (self.fmc or 0) >= (floor.fmc or 0)
        )

    def __str__(self) -> str:
        fmc = "" if self.fmc is None else f"fmc {self.fmc} "
        return f"{fmc}bl {self.bootloader} tee {self.tee} snp {self.snp} ucode {self.microcode}"


def tcb_from(value: int, *, turin: bool) -> Tcb:
    """TCB_VERSION (ABI table 3; table 4 for family 1Ah): eight bytes, two layouts.

    Raises:
        DecodeError: a reserved byte is not zero.
    """
    b = value.to_bytes(8, "little")
    if any(b[4:7] if turin else b[2:6]):
        raise DecodeError("a TCB version has reserved bytes that are not zero")
    if turin:
        return Tcb(fmc=b[0], bootloader=b[1], tee=b[2], snp=b[3], microcode=b[7])
    return Tcb(bootloader=b[0], tee=b[1], snp=b[6], microcode=b[7])


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A parsed report; nothing is verified yet. Lengths are those of the table above."""

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algo: int
    current_tcb: int
    platform_info: int
    key_flags: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: int
    cpuid: tuple[int, int, int] | None
    chip_id: bytes
    committed_tcb: int
    current_version: tuple[int, int, int]
    committed_version: tuple[int, int, int]
    launch_tcb: int
    mitigations: tuple[int, int] | None
    signature: tuple[int, int]
    signed: bytes

    @property
    def signing_key(self) -> int:
        """SIGNING_KEY: 0 VCEK, 1 VLEK, 7 none."""
        return self.key_flags >> 2 & 7

    @property
    def mask_chip_key(self) -> bool:
        """MASK_CHIP_KEY: the chip does not name itself."""
        return bool(self.key_flags >> 1 & 1)

    @classmethod
    def parse(cls, data: bytes) -> "Report":
        """Parse a report.

        Raises:
            ReportVersionError: another version than 2 to 5.
            DecodeError: another size or signature algorithm, or reserved bytes that are not zero.
        """
        if len(data) != REPORT_SIZE:
            raise DecodeError("an SNP report has 1,184 bytes")
        head = _HEAD.unpack_from(data)
        version = head[0]
        if version not in VERSIONS:
            raise ReportVersionError("an SNP report of an unknown version")
        if head[6] != ECDSA_P384_SHA384:
            raise DecodeError("the SNP report is signed with an unknown algorithm")
        _require_zero(data, version, head[9] & ~_KEY_FLAGS | head[10])
        chip, committed, current_v, _, committed_v, _, launch, launch_mit, current_mit = _TAIL.unpack_from(
            data, _TAIL_AT
        )
        r, s = (
            int.from_bytes(data[at : at + _COMPONENT], "little")
            for at in (SIGNED_SIZE, SIGNED_SIZE + _COMPONENT)
        )
        return cls(
            version=version,
            guest_svn=head[1],
            policy=head[2],
            family_id=head[3],
            image_id=head[4],
            vmpl=head[5],
            signature_algo=head[6],
            current_tcb=head[7],
            platform_info=head[8],
            key_flags=head[9],
            report_data=head[11],
            measurement=head[12],
            host_data=head[13],
            id_key_digest=head[14],
            author_key_digest=head[15],
            report_id=head[16],
            report_id_ma=head[17],
            reported_tcb=head[18],
            cpuid=(data[0x188], data[0x189], data[0x18A]) if version >= 3 else None,  # noqa: PLR2004 - since version 3
            chip_id=chip,
            committed_tcb=committed,
            current_version=(current_v[2], current_v[1], current_v[0]),
            committed_version=(committed_v[2], committed_v[1], committed_v[0]),
            launch_tcb=launch,
            mitigations=(launch_mit, current_mit) if version >= 5 else None,  # noqa: PLR2004 - since version 5
            signature=(r, s),
            signed=data[:SIGNED_SIZE],
        )

    @property
    def is_turin(self) -> bool:
        """Whether the report names a family 1Ah processor, whose TCB layout and hardware id differ."""
        return self.cpuid is not None and self.cpuid[0] == _TURIN_FAMILY

    def tcb(self, value: int) -> Tcb:
        """One of this report's TCB fields by its components.

        Raises:
            DecodeError: a reserved byte is not zero.
        """
        return tcb_from(value, turin=self.is_turin)


def _require_zero(data: bytes, version: int, reserved: int) -> None:
    spans = [
        (0x188 if version == 2 else _CPUID_END, _TAIL_AT),  # noqa: PLR2004 - CPUID came with version 3
        (0x1EB, 0x1EC),
        (0x1EF, 0x1F0),
        (0x1F8 if version < 5 else _TAIL_END, SIGNED_SIZE),  # noqa: PLR2004 - mitigation vectors came with version 5
        (SIGNED_SIZE + _COMPONENT_USED, SIGNED_SIZE + _COMPONENT),
        (SIGNED_SIZE + _COMPONENT + _COMPONENT_USED, REPORT_SIZE),
    ]
    if reserved or any(data.count(0, start, end) != end - start for start, end in spans):
        raise DecodeError("the SNP report has reserved bytes that are not zero")
