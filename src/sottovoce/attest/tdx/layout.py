"""The bytes of a TDX quote (Intel TDX DCAP quoting library API, appendix A.3: versions 4 and 5).

    header, 48 bytes:  version u16, key type u16, TEE type u32, reserved 4, vendor id 16, user data 20
    version 5 only:    body type u16 (2: TD report 1.0, 3: 1.5, 4: 1.5 extended), body size u32
    body, 584 bytes:   tee_tcb_svn 16, mr_seam 48, mr_signer_seam 48, seam_attributes 8, td_attributes 8, xfam 8, mr_td 48,
                       mr_config_id 48, mr_owner 48, mr_owner_config 48, rtmr 4 times 48, report_data 64
    1.5 adds 64 bytes: tee_tcb_svn_2 16, mr_service_td 48
    extended, 237 more: vm index u8, td_id 32, dev_info 48, init_service_td 48, init_service_td_attributes 8, init_cpu_svn 16,
                       init_tee_tcb_svn 16, init_tee_fmspc 12, cur_service_td 48, cur_service_td_attributes 8
    then:              length u32, and in it: signature 64, key 64, type u16 (6), size u32, and in it: the quoting enclave's report 384,
                       its signature 64, size u16 and its data, type u16 (5), size u32 and the platform's certificates as PEM

All integers are little-endian. What comes after the signature is signed by nobody; quotes are often kept with zeros there.
The extended report is that of the Intel TDX module ABI specification 348551-008US, TDREPORT_STRUCT.
"""

import struct
from dataclasses import dataclass
from typing import Final

from sottovoce.core.errors import DecodeError

__all__ = ["MAX_QUOTE", "Quote", "QuoteVersionError", "require_quote"]

MAX_QUOTE: Final = 16 * 1024
"""A quote has about 5 KB."""
_HEADER: Final = struct.Struct("<HHI4s16s20s")
_TYPED: Final = struct.Struct("<HI")
_BODY: Final = struct.Struct("<16s48s48sQQQ48s48s48s48s48s48s48s48s64s")
_MORE: Final = struct.Struct("<16s48s")
_EXTENDED: Final = struct.Struct("<B32s48s48s8s16s16s12s48s8s")
_LENGTH: Final = struct.Struct("<I")
_VERSION_4, _VERSION_5 = 4, 5
_TYPE_10, _TYPE_15, _TYPE_15_EXTENDED = 2, 3, 4
_SIZES: Final = {
    _TYPE_10: _BODY.size,
    _TYPE_15: _BODY.size + _MORE.size,
    _TYPE_15_EXTENDED: _BODY.size + _MORE.size + _EXTENDED.size,
}
_TDX: Final = 0x81
_SGX: Final = 0
_ECDSA_P256: Final = 2
_INTEL: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_SIGNATURE: Final = struct.Struct("<64s64sHI384s64sH")
_NESTED: Final = struct.Struct("<HI")
_BEFORE_NESTED: Final = 64 + 64 + 6
"""Signature, key, and the head of what the second size counts."""
_QE_REPORT, _PCK_CHAIN = 6, 5
_ENCRYPTED: Final = (1, 2, 3)
"""What a quoting enclave adds that was given no certificate of its platform; only Intel can say whose it is."""


class QuoteVersionError(DecodeError):
    """A quote of a version that this code does not know."""

    code = "peer.decode.quote-version"


def require_quote(data: bytes) -> None:
    """Check that this may be a TDX quote at all.

    Raises:
        DecodeError: too short or too long for one, or of another kind of enclave.
    """
    if not _HEADER.size < len(data) <= MAX_QUOTE:
        raise DecodeError("this is not a TDX quote")
    _, _, kind, _, vendor, _ = _HEADER.unpack_from(data)
    if (kind, vendor) == (_SGX, _INTEL):
        raise DecodeError("this is a quote of an SGX enclave, not a TDX quote")
    if kind != _TDX:
        raise DecodeError("this is not a TDX quote")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A parsed quote; nothing is verified yet. Lengths are those of the table above.

    Attributes:
        service_td: all that the report says of service TDs, all zero where there is none; empty in a TD report 1.0.
        vm: index of the virtual machine inside the TD that asked; 0 where it has no others.
        devices: digest over the devices that the TD trusts; zero where there is none, empty in reports that do not tell.
        certificates: the platform's certificate and those above it, PEM.
        exact: the quote without what comes after its signature.
        trailing: what comes after it, without zeros at its end.
    """

    version: int
    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: int
    td_attributes: int
    xfam: int
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    service_td: bytes
    vm: int
    devices: bytes
    certificates: bytes
    exact: bytes
    trailing: bytes

    @classmethod
    def parse(cls, data: bytes) -> "Quote":
        """Parse a quote.

        Raises:
            QuoteVersionError: another version than 4 or 5.
            DecodeError: not a quote of a trust domain, cut short, or from another vendor.
        """
        require_quote(data)
        version, key_type, _, reserved, vendor, _ = _HEADER.unpack_from(data)
        if version not in (_VERSION_4, _VERSION_5):
            raise QuoteVersionError("a quote of an unknown version")
        if key_type != _ECDSA_P256 or vendor != _INTEL or (version == _VERSION_5 and any(reserved)):
            raise DecodeError("the TDX quote is of another vendor or signed with another algorithm")
        kind, start = _body(data, version)
        fields, end = _unpack(_BODY, data, start)
        service, vm, devices, end = _more(kind, data, end)
        (length,), end = _unpack(_LENGTH, data, end)
        if length > len(data) - end:
            raise DecodeError("the TDX quote is cut short")
        certificates = _certificates(data[end : end + length])
        end += length
        return cls(
            version=version,
            tee_tcb_svn=fields[0],
            mr_seam=fields[1],
            mr_signer_seam=fields[2],
            seam_attributes=fields[3],
            td_attributes=fields[4],
            xfam=fields[5],
            mr_td=fields[6],
            mr_config_id=fields[7],
            mr_owner=fields[8],
            mr_owner_config=fields[9],
            rtmrs=fields[10:14],
            report_data=fields[14],
            service_td=service,
            vm=vm,
            devices=devices,
            certificates=certificates,
            exact=data[:end],
            trailing=data[end:].rstrip(b"\0"),
        )


def _unpack(form: struct.Struct, data: bytes, at: int) -> tuple[tuple, int]:  # type: ignore[type-arg]  # as struct says
    if at + form.size > len(data):
        raise DecodeError("the TDX quote is cut short")
    return form.unpack_from(data, at), at + form.size


def _certificates(signed: bytes) -> bytes:
    fields, at = _unpack(_SIGNATURE, signed, 0)
    _, _, kind, size, _, _, length = fields
    if kind != _QE_REPORT or size != len(signed) - _BEFORE_NESTED:
        raise DecodeError("the TDX quote has certification data of an unknown type or of a wrong size")
    (kind, size), at = _unpack(_NESTED, signed, at + length)
    if kind in _ENCRYPTED:
        raise DecodeError("the TDX quote has an encrypted platform id in place of certificates")
    if kind != _PCK_CHAIN or size != len(signed) - at:
        raise DecodeError("the TDX quote has certificates in an unknown form or of a wrong size")
    return signed[at:]


def _body(data: bytes, version: int) -> tuple[int, int]:
    """The type of the body, and where it begins."""
    if version == _VERSION_4:
        return _TYPE_10, _HEADER.size
    (kind, size), start = _unpack(_TYPED, data, _HEADER.size)
    if _SIZES.get(kind) != size:
        raise DecodeError("the TDX quote has a body of an unknown type or of a wrong size")
    return kind, start


def _more(kind: int, data: bytes, at: int) -> tuple[bytes, int, bytes, int]:
    """Service TDs, virtual machine and devices, and where what follows begins."""
    if kind == _TYPE_10:
        return b"", 0, b"", at
    (_, initial), at = _unpack(_MORE, data, at)
    if kind == _TYPE_15:
        return initial, 0, b"", at
    fields, at = _unpack(_EXTENDED, data, at)
    vm, _, devices, first, first_attributes, _, _, _, now, now_attributes = fields
    return b"".join((initial, first, first_attributes, now, now_attributes)), vm, devices, at
