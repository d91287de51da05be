"""Reports and certificates as kernels, hosts and tools hand them over, told apart by content.

    report                 1,184 bytes, as configfs-tsm's outblob and snpguest have it
    MSG_REPORT_RSP         status u32 = 0 ‖ report_size u32 = 1184 ‖ 24 zeros ‖ report, then zeros (SNP_GET_REPORT fills 4,000 bytes)
    report ‖ table         the host's certificates behind (`certtable`), as go-sev-guest writes an extended report
    table                  alone, as configfs-tsm's auxblob has it: certificates, and perhaps a revocation list
    {"vcekCert": PEM, "certificateChain": PEM, "tcbm": …, "cacheControl": …}      what Azure's metadata service answers (THIM)

Each may stand in hexadecimal, base64 or PEM (`attest.pem`), the last in base64. Sources: AMD 56860 section 7.3 (MSG_REPORT_RSP), Linux
include/uapi/linux/sev-guest.h, Azure "Trusted Hardware Identity Management" for AMD.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sottovoce.attest.certificates import Certificate
from sottovoce.attest.pem import certificates, plain
from sottovoce.attest.snp.certtable import is_table, parse_table
from sottovoce.attest.snp.layout import REPORT_SIZE
from sottovoce.attest.snp.vcek import VCEK_NAME, VLEK_NAME
from sottovoce.attest.strictjson import strict_json
from sottovoce.attest.verdict import quietly
from sottovoce.core.errors import DecodeError

__all__ = ["SnpPapers", "key_first", "parse_certificates", "parse_papers"]

_RESPONSE: Final = struct.pack("<II", 0, REPORT_SIZE)
"""Begins a response that holds a report; a report itself begins with its version, which is not 0."""
_RESPONSE_HEAD: Final = 0x20
_RESPONSE_SIZE: Final = 4000
"""SNP_REPORT_RESP_DATA_SIZE: what the kernel's answer has."""
_KEY_FLAGS: Final = slice(0x48, 0x4C)  # AMD 56860 table 23; SIGNING_KEY is in bits 2 to 4
_VLEK: Final = 1
_BEGIN: Final = b"-----BEGIN "
_ANSWER: Final = ("vcekCert", "certificateChain")
_BESIDE: Final = frozenset({"tcbm", "cacheControl"})
"""What nobody has signed: patch levels, which the certificate has as well, and for how many seconds to keep it."""
_LONGEST_ANSWER: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpPapers:
    """What one file holds; nothing is verified yet.

    Attributes:
        report: 1,184 bytes; empty in a file of certificates.
        certificates: DER each, in the order of the file.
        crl: the vendor's revocation list (DER); empty where there is none.
    """

    report: bytes = b""
    certificates: tuple[bytes, ...] = ()
    crl: bytes = b""


def parse_papers(data: bytes) -> SnpPapers:
    """The report in a file, with the certificates that stand behind it.

    Raises:
        DecodeError: no report, or something else behind it than a table of certificates.
    """
    data = plain(data)
    if data.startswith(_RESPONSE):
        return SnpPapers(report=_from_response(data))
    report, rest = data[:REPORT_SIZE], data[REPORT_SIZE:]
    if len(report) != REPORT_SIZE or (rest and not is_table(rest)):
        raise DecodeError("this is not an SNP report, which has 1,184 bytes")
    found, crl = _from_table(rest)
    return SnpPapers(report=report, certificates=found, crl=crl)


def parse_certificates(data: bytes) -> SnpPapers:
    """The certificates in a file: one in DER, hexadecimal or base64, one or more in PEM, the host's table, or Azure's answer.

    Raises:
        DecodeError: none of these, or one of them is no certificate.
    """
    binary, crl = data if _BEGIN in data else plain(data), b""
    if binary.lstrip()[:1] == b"{":
        found = _from_answer(binary)
    elif is_table(binary):
        found, crl = _from_table(binary)
    else:
        found = certificates(data)
    for certificate in found:
        Certificate.parse(certificate)
    return SnpPapers(certificates=found, crl=crl)


def key_first(found: Sequence[bytes], report: bytes) -> tuple[bytes, ...]:
    """The certificates `found` (DER), the one of the key that signs reports first, whatever their order was.

    Where there is one of a chip's key and one of a shared key, `report` says which of them it is; whoever verifies it checks that.
    """
    flags = int.from_bytes(report[_KEY_FLAGS], "little")
    names = (VLEK_NAME, VCEK_NAME) if flags >> 2 & 7 == _VLEK else (VCEK_NAME, VLEK_NAME)
    places = {name: place for place, name in enumerate(names)}
    return tuple(sorted(found, key=lambda der: places.get(_name(der), len(places))))


def _name(der: bytes) -> str:
    return quietly(lambda: Certificate.parse(der).common_name) or ""


def _from_response(data: bytes) -> bytes:
    end = _RESPONSE_HEAD + REPORT_SIZE
    if (
        not end <= len(data) <= _RESPONSE_SIZE
        or any(data[len(_RESPONSE) : _RESPONSE_HEAD])
        or any(data[end:])
    ):
        raise DecodeError("the security processor's answer has another form than that of a report")
    return data[_RESPONSE_HEAD:end]


def _from_answer(data: bytes) -> tuple[bytes, ...]:
    if len(data) > _LONGEST_ANSWER:
        raise DecodeError("the JSON document is longer than its limit")
    members = strict_json(data, "the members of the certificates' document")
    if members.keys() - _BESIDE != set(_ANSWER):
        raise DecodeError(
            "the JSON document has other members than vcekCert, certificateChain, tcbm and cacheControl"
        )
    texts = [members[name] for name in _ANSWER]
    if not all(isinstance(text, str) and text.isascii() for text in texts):
        raise DecodeError("the JSON document has certificates that are not text")
    return tuple(one for text in texts for one in certificates(text.encode()))


def _from_table(data: bytes) -> tuple[tuple[bytes, ...], bytes]:
    table = parse_table(data)
    # GHCB says nothing about an entry's encoding, and hosts put in what their owners gave them.
    found = [certificates(entry) for entry in (table.vcek, table.vlek, table.ask, table.ark) if entry]
    return tuple(one for several in found for one in several), plain(table.crl)
