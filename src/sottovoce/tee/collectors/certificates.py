"""The certificates that a host leaves for its guest (AMD 56421, GHCB 2.03, section 4.1.8.1, MSG_REPORT_REQ: cert_table).

    entry   16 bytes GUID ‖ u32 offset ‖ u32 length, little-endian; offsets count from the table's start
    table   entries, then one of 24 zero bytes, then the certificates that the entries point to

A GUID's bytes stand in the order in which it is written. The host fills this table, so it is parsed as hostile input; what is
in it is verified by whoever verifies the evidence.
"""

import struct
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from sottovoce.attest.evidence import Endorsements
from sottovoce.core.errors import DecodeError
from sottovoce.tee.collectors.base import Bundle

__all__ = ["ARK", "ASK", "CRL", "ENTRY", "VCEK", "VLEK", "Certificates", "parse_table", "with_certificates"]

VCEK: Final = UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK: Final = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK: Final = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
ARK: Final = UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
CRL: Final = UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")

ENTRY: Final = struct.Struct("<16sII")
_END: Final = bytes(ENTRY.size)
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


def with_certificates(bundle: Bundle, table: Certificates) -> Bundle:
    """`bundle` with the certificates of the table where it has them.

    The table goes with the report that it came with, so after a firmware update it has the new VCEK when the host's own copy
    may not. The root is not needed: every device has its own.
    """
    e = bundle.endorsements
    endorsements = Endorsements(vcek=table.vcek or e.vcek, ask=table.ask or e.ask, crl=table.crl or e.crl)
    return replace(bundle, endorsements=endorsements)
