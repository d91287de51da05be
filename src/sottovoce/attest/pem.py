"""Certificates and reports as people keep them: DER, PEM (RFC 7468), hexadecimal or base64, told apart by content."""

import base64
import binascii
import re
from typing import Final

from sottovoce.core.errors import DecodeError

__all__ = ["armored", "certificates", "plain"]

_BLOCK: Final = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\s([A-Za-z0-9+/=\s]*)-----END \1-----", re.ASCII
)
_BEGIN: Final = b"-----BEGIN "
_LINE: Final = 64
_HEX: Final = re.compile(rb"(?:0[xX])?[0-9A-Fa-f\s]+", re.ASCII)
_BASE64: Final = re.compile(rb"([A-Za-z0-9+/\s]+|[A-Za-z0-9_\-\s]+)((?:=\s*){0,2})", re.ASCII)
_TO_BASE64: Final = bytes.maketrans(b"-_", b"+/")


def _blocks(data: bytes) -> list[bytes]:
    found = []
    for match in _BLOCK.finditer(data):
        try:
            found.append(base64.b64decode(b"".join(match[2].split()), validate=True))
        except binascii.Error:
            raise DecodeError("a PEM block is not base64") from None
    if not found or len(found) != data.count(_BEGIN):
        raise DecodeError("a PEM block is not whole")
    return found


def _unhexed(data: bytes) -> bytes | None:
    if not _HEX.fullmatch(data):
        return None
    digits = b"".join(data.split())
    digits = digits[2:] if digits[:2] in (b"0x", b"0X") else digits
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        raise DecodeError("the hexadecimal digits are not whole bytes") from None


def _unbased(data: bytes) -> bytes | None:
    # RFC 4648 sections 4 and 5, with padding or without. Text that only looks like it stays as it is, and is no report.
    match = _BASE64.fullmatch(data)
    if not match:
        return None
    digits, padding = (b"".join(part.split()) for part in match.groups())
    needed = b"=" * (-len(digits) % 4)
    try:
        return (
            base64.b64decode(digits.translate(_TO_BASE64) + needed, validate=True)
            if padding in (b"", needed)
            else None
        )
    except binascii.Error:
        return None


def certificates(data: bytes) -> tuple[bytes, ...]:
    """The certificates (or revocation lists) in `data`, DER each: one in any form, or several in PEM.

    Raises:
        DecodeError: none of these.
    """
    if _BEGIN in data:
        return tuple(_blocks(data))
    return (plain(data),)


def plain(data: bytes) -> bytes:
    """The bytes of one report or certificate: from PEM of one block, from hexadecimal or base64, or as they are.

    Raises:
        DecodeError: PEM or hexadecimal that is not whole, or several blocks.
    """
    # A TDX quote is binary and has certificates inside, as PEM.
    if _BEGIN in data and data.isascii():
        blocks = _blocks(data)
        if len(blocks) != 1:
            raise DecodeError("there are several PEM blocks where one is expected")
        return blocks[0]
    # DER and reports hold bytes that stand in neither text; text of hexadecimal digits alone is taken for these.
    return _unhexed(data) or _unbased(data) or data


def armored(*ders: bytes) -> bytes:
    """Certificates as plain PEM (RFC 7468 section 3, strict), without a line's end behind the last one."""
    return b"\n".join(map(_armored, ders))


def _armored(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return b"\n".join((b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----"))
