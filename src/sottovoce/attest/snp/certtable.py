"""The certificates that a host leaves for its guest (AMD 56421, GHCB 2.03, section 4.1.8.1, MSG_REPORT_REQ: cert_table).

    entry   16 bytes GUID ‖ u32 offset ‖ u32 length, little-endian; offsets count from the table's start
    table   entries, then one of 24 zero bytes, then the certificates that the entries point to

A GUID's bytes stand in the order in which it is written. The host fills this table, so it is parsed as hostile input; what is
in it is verified by whoever verifies the evidence.
"""

import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sottovoce.core.errors import DecodeError

__all__ = ["ARK", "ASK", "CRL", "ENTRY", "VCEK", "VLEK", "Certificates", "is_table", "parse_table"]

VCEK: Final = UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK: Final = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK: Final = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
ARK: Final = UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
CRL: Final = UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")

ENTRY: Final = struct.Struct("<16sII")
_END: Final = bytes(ENTRY.size)
_GUID: Final = 16
_MAX_ENTRIES: Final = 16
"""The specification has five, and hosts may add their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """What the table holds, DER; empty where it has no such entry."""

    vcek: bytes = b""
    vlek: bytes = b""
    ask: bytes = b""
    ark: bytes = b""
    crl: bytes = b""


def parse_table(data: bytes) -> Certificates:
    """The certificates in a table; no bytes at all are an empty table, which a host may leave.

    Entries with GUIDs of the host's own are checked for form and left out.

    Raises:
        DecodeError: no end, a GUID twice, or an entry that is empty, outside the table, or overlaps another.
    """
    if not data:
        return Certificates()
    found: dict[UUID, bytes] = {}
    entries = _entries(data)
    taken = (len(entries) + 1) * ENTRY.size
    for offset, length, guid in sorted(entries):
        if guid in found or not length or offset < taken or offset + length > len(data):
            raise DecodeError("the host's certificate table is malformed")
        found[guid] = data[offset : offset + length]
        taken = offset + length
    named = {name: found.get(guid, b"") for name, guid in _NAMES.items()}
    return Certificates(**named)


_NAMES: Final = {"vcek": VCEK, "vlek": VLEK, "ask": ASK, "ark": ARK, "crl": CRL}


def is_table(data: bytes) -> bool:
    """Whether `data` is meant to be a table: one of its first entries has a GUID that the specification names."""
    known = {guid.bytes for guid in _NAMES.values()}
    return any(data[at : at + _GUID] in known for at in range(0, _MAX_ENTRIES * ENTRY.size, ENTRY.size))


def _entries(data: bytes) -> list[tuple[int, int, UUID]]:
    entries: list[tuple[int, int, UUID]] = []
    for start in range(0, (_MAX_ENTRIES + 1) * ENTRY.size, ENTRY.size):
        entry = data[start : start + ENTRY.size]
        if entry == _END:
            return entries
        if len(entry) < ENTRY.size:
            break
        guid, offset, length = ENTRY.unpack(entry)
        entries.append((offset, length, UUID(bytes=guid)))
    raise DecodeError("the host's certificate table has no end")
