"""The attestation report's bytes: an SPDM 1.1 request and the device's answer to it (DMTF DSP0274 1.1.1, section 10.11).

    GET_MEASUREMENTS, 37 bytes            MEASUREMENTS
      0 version 0x11                        0 version 0x11
      1 code 0xE0                           1 code 0x60
      2 attributes 0x01: signed             2 reserved
      3 operation 0xFF: all                 3 slot (low 4 bits)
      4 nonce of the verifier 32            4 number of blocks u8
     36 slot (low 4 bits)                   5 length of the record u24
                                            8 record, then nonce of the device 32
    A block: index u8, specification u8 (1: DMTF), size u16;      opaque length u16, opaque data
    type u8, size u16, value.                                     signature 96: r 48, s 48, big-endian

All other integers are little-endian. The signature covers everything before it.

UNSPECIFIED: drivers hand reports over in a larger buffer, so real ones have zeros after the signature; nothing else is let pass there.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sottovoce.core.errors import DecodeError

__all__ = ["DIGEST", "MAX_REPORT", "NONCE", "REQUEST", "Report"]

NONCE: Final = 32
DIGEST: Final = 48
"""Bytes of a measurement: SHA-384."""
REQUEST: Final = 37
SIGNATURE: Final = 96
MAX_REPORT: Final = 32 * 1024
"""Real ones have 2 to 5 KiB."""
_VERSION: Final = 0x11
_GET_MEASUREMENTS, _MEASUREMENTS = 0xE0, 0x60
_SIGNED, _ALL = 0x01, 0xFF
_SLOT: Final = 0x0F
_DMTF: Final = 1
_MAX_OPAQUE: Final = 1024  # DSP0274 section 10.11
_HEAD: Final = struct.Struct("<BBBBB3s")
_BLOCK: Final = struct.Struct("<BBHBH")
_BLOCK_HEAD, _VALUE_HEAD = 4, 3
_TYPES: Final = frozenset(range(5))  # DSP0274 section 10.11, the kinds of what is measured: ROM to manifest
_RAW: Final = 0x80  # the value is no digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A parsed report; nothing is verified yet.

    Attributes:
        nonce: what the verifier demanded, 32 bytes.
        device_nonce: the device's own, 32 bytes.
        measurements: index, from 1 → value; digests have 48 bytes.
        opaque: the vendor's fields, undecoded.
        signature: r and s.
        signed: the bytes that the signature covers.
    """

    nonce: bytes
    device_nonce: bytes
    measurements: Mapping[int, bytes]
    opaque: bytes
    signature: tuple[int, int]
    signed: bytes

    @classmethod
    def parse(cls, data: bytes) -> "Report":
        """Parse a report.

        Raises:
            DecodeError: truncated, other trailing bytes than zeros, another message or version, or blocks out of order.
        """
        if len(data) > MAX_REPORT:
            raise DecodeError("the GPU report is longer than its limit")
        if len(data) < REQUEST + _HEAD.size:
            raise DecodeError("the GPU report ends too early")
        nonce, slot = _request(data[:REQUEST])
        version, code, reserved, answered, count, length = _HEAD.unpack_from(data, REQUEST)
        if (version, code) != (_VERSION, _MEASUREMENTS):
            raise DecodeError("the GPU report holds no SPDM 1.1 MEASUREMENTS")
        if reserved or answered != slot:
            raise DecodeError("the GPU report answers for another slot, or sets reserved bits")
        record = REQUEST + _HEAD.size
        end = record + int.from_bytes(length, "little")
        opaque = end + NONCE + 2
        if len(data) < opaque:
            raise DecodeError("the GPU report ends too early")
        size = int.from_bytes(data[opaque - 2 : opaque], "little")
        signature = opaque + size
        last = signature + SIGNATURE
        if size > _MAX_OPAQUE or len(data) < last or any(data[last:]):
            raise DecodeError("the GPU report has another length than it says")
        half = signature + SIGNATURE // 2
        return cls(
            nonce=nonce,
            device_nonce=data[end : end + NONCE],
            measurements=_blocks(data[record:end], count),
            opaque=data[opaque:signature],
            signature=(int.from_bytes(data[signature:half], "big"), int.from_bytes(data[half:last], "big")),
            signed=data[:signature],
        )


def _request(data: bytes) -> tuple[bytes, int]:
    if data[0] != _VERSION or data[1] != _GET_MEASUREMENTS:
        raise DecodeError("the GPU report does not begin with SPDM 1.1 GET_MEASUREMENTS")
    if data[2] != _SIGNED or data[3] != _ALL:
        raise DecodeError("the GPU report was not asked for all measurements with a signature")
    slot = data[REQUEST - 1]
    if slot & ~_SLOT:
        raise DecodeError("the GPU report's request sets reserved bits")
    return data[4 : 4 + NONCE], slot


def _blocks(record: bytes, count: int) -> Mapping[int, bytes]:
    found: dict[int, bytes] = {}
    at, last = 0, 0
    for _ in range(count):
        if at + _BLOCK.size > len(record):
            raise DecodeError("the GPU report's measurements end too early")
        index, specification, size, kind, value_size = _BLOCK.unpack_from(record, at)
        if index <= last:
            raise DecodeError("the GPU report's measurements are not in order")
        if specification != _DMTF or size != value_size + _VALUE_HEAD:
            raise DecodeError("the GPU report has a measurement of an unknown form")
        if kind & ~_RAW not in _TYPES or (not kind & _RAW and value_size != DIGEST):
            raise DecodeError("the GPU report has a measurement of an unknown type or length")
        at += _BLOCK_HEAD + size
        if at > len(record):
            raise DecodeError("the GPU report's measurements end too early")
        found[index], last = record[at - value_size : at], index
    if at != len(record) or not found:
        raise DecodeError("the GPU report has no measurements, or bytes behind them")
    return found
