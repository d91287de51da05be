"""A TPM's quote (TCG, TPM 2.0 library specification, part 2: sections 10.12 TPMS_ATTEST, 10.6 PCR structures, 11.3 signatures).

    magic u32 = 0xFF544347   type u16 = 0x8018 TPM_ST_ATTEST_QUOTE
    qualifiedSigner  u16 length ‖ name: u16 hash ‖ digest
    extraData        u16 length ‖ what the caller asked to have signed, at most 64 bytes
    clockInfo        clock u64, resetCount u32, restartCount u32, safe u8 (0 or 1)      firmwareVersion u64
    pcrSelect        u32 count = 1 ‖ hash u16 ‖ u8 length = 3 ‖ 3 bytes: bit n of byte k is register 8k + n
    pcrDigest        u16 length ‖ digest over the selected registers, in rising order

All integers are big-endian. Accepted is one selection, in the SHA-256 bank, with a SHA-256 digest.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Final

from sottovoce.core.errors import DecodeError

__all__ = ["PCRS", "QuoteTypeError", "SignedQuote", "TpmQuote", "signature_bytes"]

PCRS: Final = 24
"""Registers of a bank."""
_GENERATED: Final = 0xFF544347
_ATTEST_QUOTE: Final = 0x8018
_HEAD: Final = struct.Struct(">IH")
_CLOCK: Final = struct.Struct(">QIIBQ")
_SELECTION: Final = struct.Struct(">IHB3s")
_SIZE: Final = struct.Struct(">H")
_SHA256: Final = 0x000B
_DIGEST: Final = 32
_EXTRA: Final = 64
_RSASSA_SHA256: Final = struct.pack(">HH", 0x0014, _SHA256)
_LIMIT: Final = 1024


class QuoteTypeError(DecodeError):
    """What the TPM's key signed is not a quote that a TPM made."""

    code = "peer.decode.tpm-quote-type"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedQuote:
    """A quote as it was handed over.

    Attributes:
        message: TPMS_ATTEST.
        signature: the plain RSA signature, or a TPMT_SIGNATURE that holds it.
        pcrs: the 24 registers of the SHA-256 bank, 32 bytes each, as somebody says they were; None if nobody does.
    """

    message: bytes
    signature: bytes
    pcrs: tuple[bytes, ...] | None = None

    def __post_init__(self) -> None:
        if self.pcrs is not None and (
            len(self.pcrs) != PCRS or any(len(value) != _DIGEST for value in self.pcrs)
        ):
            raise DecodeError("the quote comes with something else than 24 registers of 32 bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmQuote:
    """A parsed quote; nothing is verified yet.

    Attributes:
        signer: the key's qualified name.
        nonce: extraData.
        selected: the registers that the digest is over.
        pcr_digest: 32 bytes.
    """

    signer: bytes
    nonce: bytes
    selected: tuple[int, ...]
    pcr_digest: bytes

    @classmethod
    def parse(cls, data: bytes) -> "TpmQuote":
        """Parse a quote.

        Raises:
            QuoteTypeError: made outside a TPM, or not a quote.
            DecodeError: a wrong length, another bank or hash than SHA-256, nothing selected, or trailing bytes.
        """
        reader = _Reader(data)
        magic, kind = reader.take(_HEAD)
        if (magic, kind) != (_GENERATED, _ATTEST_QUOTE):
            raise QuoteTypeError("what is signed is not a quote made by a TPM")
        signer = reader.sized(_SIZE.size + _DIGEST)
        if len(signer) != _SIZE.size + _DIGEST or signer[: _SIZE.size] != _SIZE.pack(_SHA256):
            raise DecodeError("the quote names its key by another hash than SHA-256")
        nonce = reader.sized(_EXTRA)
        if reader.take(_CLOCK)[3] not in (0, 1):
            raise DecodeError("the quote has a clock that is neither safe nor unsafe")
        count, bank, size, bits = reader.take(_SELECTION)
        if (count, bank, size) != (1, _SHA256, 3):
            raise DecodeError("the quote is not over registers of the SHA-256 bank alone")
        selected = tuple(number for number in range(PCRS) if bits[number // 8] >> number % 8 & 1)
        digest = reader.sized(_DIGEST)
        if not selected or len(digest) != _DIGEST:
            raise DecodeError("the quote is over no registers, or has no SHA-256 digest of them")
        reader.end()
        return cls(signer=signer, nonce=nonce, selected=selected, pcr_digest=digest)

    def digest_of(self, pcrs: tuple[bytes, ...]) -> bytes:
        """What the digest would be over these 24 registers."""
        return hashlib.sha256(b"".join(pcrs[number] for number in self.selected)).digest()


def signature_bytes(data: bytes, *, size: int) -> bytes:
    """The RSA signature of `size` bytes in `data`: plain, or a TPMT_SIGNATURE of RSASSA with SHA-256.

    Raises:
        DecodeError: another length, scheme or hash.
    """
    if len(data) == size:
        return data
    head = _RSASSA_SHA256 + _SIZE.pack(size)
    if len(data) != len(head) + size or data[: len(head)] != head:
        raise DecodeError("the quote is not signed with RSASSA and SHA-256, or with a key of another size")
    return data[len(head) :]


class _Reader:
    def __init__(self, data: bytes) -> None:
        if len(data) > _LIMIT:
            raise DecodeError("the quote is longer than its limit")
        self._data, self._at = data, 0

    def _bytes(self, length: int) -> bytes:
        if len(self._data) - self._at < length:
            raise DecodeError("the quote is cut short")
        self._at += length
        return self._data[self._at - length : self._at]

    def take(self, form: struct.Struct) -> tuple[Any, ...]:
        return form.unpack(self._bytes(form.size))

    def sized(self, most: int) -> bytes:
        (length,) = self.take(_SIZE)
        if length > most:
            raise DecodeError("the quote has a field that is longer than its limit")
        return self._bytes(length)

    def end(self) -> None:
        if self._at != len(self._data):
            raise DecodeError("there are bytes after the quote")
