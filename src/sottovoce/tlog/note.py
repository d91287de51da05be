"""Signed notes and their keys (C2SP signed-note), and timestamped cosignatures (C2SP tlog-cosignature).

<text ending in newline>
<empty line>
— <key name> base64(4-byte key id ‖ signature)      one line a signature
"""

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sottovoce.core.errors import CryptoError, DecodeError, UsageError

__all__ = [
    "COSIGNATURE",
    "ED25519",
    "Note",
    "NoteSignature",
    "SignatureError",
    "SigningKey",
    "VerifierKey",
    "sign_note",
]

ED25519: Final = 0x01
"""Signature type of a plain Ed25519 note signature."""
COSIGNATURE: Final = 0x04
"""Signature type of a timestamped Ed25519 cosignature."""
_MAX_SIGNATURES: Final = 32
_MAX_NOTE: Final = 2 * 1024 * 1024
_KEY_ID: Final = 4
_PUBLIC_KEY: Final = 32
_SIGNATURE: Final = 64
_TIMESTAMP: Final = struct.Struct(">Q")
_MAX_TIME: Final = (1 << 63) - 1
"""tlog-cosignature, "Format"."""
_NAME: Final = re.compile(r"[^\s+\ud800-\udfff]+")
"""Surrogates stand for what is not UTF-8 on a command line; a note has none."""
_DASH: Final = "\u2014 "


class SignatureError(CryptoError):
    """A signature of a known key does not verify, or there is none."""

    code = "peer.crypto.note-signature"


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError("a note holds base64 that does not decode") from None
    if base64.b64encode(data).decode() != text:
        raise DecodeError("a note holds base64 that is not canonical")
    return data


def _key_id(name: str, kind: int, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:_KEY_ID]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """The line, newline included."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text with its signatures; nothing is verified yet."""

    text: str
    signatures: tuple[NoteSignature, ...]

    @classmethod
    def parse(cls, data: bytes) -> "Note":
        """Parse a signed note.

        Raises:
            DecodeError: not a signed note.
        """
        if len(data) > _MAX_NOTE:
            raise DecodeError("the signed note is longer than its limit")
        try:
            whole = data.decode()
        except UnicodeDecodeError:
            raise DecodeError("the signed note is not UTF-8") from None
        text, found, lines = whole.rpartition("\n\n")
        if not found or not text or not lines.endswith("\n") or re.search(r"[\x00-\x09\x0b-\x1f]", whole):
            raise DecodeError("this is not a signed note")
        signatures = tuple(map(_parse_line, lines[:-1].split("\n")))
        if len(signatures) > _MAX_SIGNATURES:
            raise DecodeError("the signed note has too many signatures")
        return cls(text=text + "\n", signatures=signatures)

    def encode(self) -> bytes:
        """The note as bytes."""
        return (self.text + "\n" + "".join(item.line() for item in self.signatures)).encode()

    def signed_by(self, key: "VerifierKey") -> bool:
        """Whether there is a valid plain signature by `key`.

        Raises:
            SignatureError: there is one that claims to be, and does not verify.
        """
        found = [item for item in self.signatures if key.made(item)]
        for item in found:
            key.verify(item.signature, self.text.encode())
        return bool(found)

    def cosigned_at(self, key: "VerifierKey") -> int | None:
        """The time of the newest cosignature by `key`, unix seconds; None without one.

        Raises:
            SignatureError: there is one that claims to be, and does not verify.
        """
        found = [item for item in self.signatures if key.made(item)]
        return max((key.verify_cosignature(item.signature, self.text) for item in found), default=None)


def _parse_line(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not _NAME.fullmatch(name):
        raise DecodeError("a signature line of the note is malformed")
    raw = _base64(encoded)
    if len(raw) <= _KEY_ID:
        raise DecodeError("a signature line of the note is malformed")
    return NoteSignature(name=name, key_id=raw[:_KEY_ID], signature=raw[_KEY_ID:])


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key with its name: `<name>+<hex key id>+<base64(type ‖ key)>`."""

    name: str
    kind: int
    public: bytes
    key_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DecodeError("the key's name is empty or has a space or plus sign")
        if self.kind not in {ED25519, COSIGNATURE} or len(self.public) != _PUBLIC_KEY:
            raise DecodeError("the key has an unknown type or a wrong length")
        object.__setattr__(self, "key_id", _key_id(self.name, self.kind, self.public))

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Parse a vkey.

        Raises:
            DecodeError: malformed, unknown type, or a key id that is not the key's.
        """
        parts = text.split("+", 2)
        if len(parts) != 3:  # noqa: PLR2004 - name, id, key
            raise DecodeError("a vkey has three parts")
        raw = _base64(parts[2])
        key = cls(name=parts[0], kind=raw[0] if raw else 0, public=raw[1:])
        if key.key_id.hex() != parts[1]:
            raise DecodeError("the vkey's id does not belong to its key")
        return key

    def __str__(self) -> str:
        encoded = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def made(self, item: NoteSignature) -> bool:
        """Whether the line names this key."""
        return (item.name, item.key_id) == (self.name, self.key_id)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a plain signature.

        Raises:
            SignatureError: it does not verify.
        """
        if self.kind != ED25519:
            raise SignatureError("the key is for cosignatures only")
        self._verify(signature, message)

    def verify_cosignature(self, signature: bytes, text: str) -> int:
        """Check a timestamped cosignature on the checkpoint `text`; returns its time, unix seconds.

        Raises:
            SignatureError: it does not verify.
        """
        if self.kind != COSIGNATURE or len(signature) != _TIMESTAMP.size + _SIGNATURE:
            raise SignatureError("not a timestamped Ed25519 cosignature")
        (time,) = _TIMESTAMP.unpack_from(signature)
        if time > _MAX_TIME:
            raise SignatureError("a cosignature's time is out of range")
        self._verify(signature[_TIMESTAMP.size :], _cosigned(text, time))
        return int(time)

    def _verify(self, signature: bytes, message: bytes) -> None:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise SignatureError("a signature of a known key does not verify") from None


def _cosigned(text: str, time: int) -> bytes:
    # tlog-cosignature, "Ed25519 signed message"
    return f"cosignature/v1\ntime {time}\n{text}".encode()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SigningKey:
    """A private key with its name."""

    name: str
    kind: int
    private: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str, kind: int = ED25519) -> "SigningKey":
        """A new key."""
        return cls(name=name, kind=kind, private=Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> "SigningKey":
        """Parse what `secret` gives: `<name>+<type>+<base64 of the 32-byte seed>`.

        Raises:
            DecodeError: malformed.
        """
        parts = text.strip().split("+", 2)
        if len(parts) != 3 or parts[1] not in {str(ED25519), str(COSIGNATURE)}:  # noqa: PLR2004
            raise DecodeError("malformed signing key")
        seed = _base64(parts[2])
        if len(seed) != _PUBLIC_KEY:
            raise DecodeError("malformed signing key")
        return cls(name=parts[0], kind=int(parts[1]), private=Ed25519PrivateKey.from_private_bytes(seed))

    def secret(self) -> str:
        """The key as text, for a file that only its owner reads."""
        seed = self.private.private_bytes_raw()
        return f"{self.name}+{self.kind}+{base64.b64encode(seed).decode()}"

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        public = self.private.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        return VerifierKey(name=self.name, kind=self.kind, public=public)

    def sign(self, text: str) -> NoteSignature:
        """A plain signature over `text`, which must end in a newline."""
        if self.kind != ED25519 or not text.endswith("\n"):
            raise UsageError("only an Ed25519 note key signs a text that ends in a newline")
        return self._line(self.private.sign(text.encode()))

    def cosign(self, text: str, *, time: int) -> NoteSignature:
        """A cosignature on the checkpoint `text`, made at `time` (unix seconds)."""
        # tlog-witness: a witness never leaves out the time, which is what 0 would mean.
        if self.kind != COSIGNATURE or not 0 < time <= _MAX_TIME:
            raise UsageError("only a cosignature key cosigns, at a time after 1970")
        return self._line(_TIMESTAMP.pack(time) + self.private.sign(_cosigned(text, time)))

    def _line(self, signature: bytes) -> NoteSignature:
        return NoteSignature(name=self.name, key_id=self.verifier.key_id, signature=signature)


def sign_note(text: str, keys: Sequence[SigningKey]) -> Note:
    """`text` signed by each of `keys`."""
    return Note(text=text, signatures=tuple(key.sign(text) for key in keys))
