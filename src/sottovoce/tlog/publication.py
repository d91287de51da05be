"""Publishing a release takes two keys, held by different people (protocol section 10).

Each holder signs the release's log entry alone, with the command `sottovoce log sign`: a signed note (C2SP signed-note) whose text is the
entry and a newline. What is submitted is that note with the signatures of both; the log enters the entry, the signatures stay with the
log's operator. The names of the keys say that they are for publishing, so that no other note of ours is taken for one.
"""

from collections.abc import Sequence
from typing import Final

from sottovoce.core.errors import ConfigError, CryptoError, DecodeError, UsageError
from sottovoce.tlog.entries import Release
from sottovoce.tlog.members import kind_of
from sottovoce.tlog.note import ED25519, Note, NoteSignature, SigningKey, VerifierKey, sign_note

__all__ = [
    "PUBLISHERS",
    "Publishers",
    "PublishersError",
    "combine",
    "is_release",
    "sign_release",
]

PUBLISHERS: Final = 2
"""Keys that a release needs."""
_PREFIX: Final = "publisher."


class PublishersError(CryptoError):
    """A release with fewer signatures of different publishers than it needs."""

    code = "peer.crypto.publishers"


def is_release(entry: bytes) -> bool:
    """Whether a verifier could take `entry` for a release: it reads nothing but canonical JSON that says so."""
    try:
        return kind_of(entry) == "release"
    except DecodeError:
        return False


def sign_release(entry: bytes, key: SigningKey) -> NoteSignature:
    """One holder's signature.

    Raises:
        DecodeError: it is not a release.
        UsageError: the key is not a publisher's.
    """
    Release.parse(entry)
    if key.kind != ED25519 or not key.name.startswith(_PREFIX):
        raise UsageError("this is not a publisher's key")
    return sign_note(_text(entry), [key]).signatures[0]


def combine(entry: bytes, signatures: Sequence[NoteSignature]) -> bytes:
    """What is submitted: the entry with the signatures of both holders."""
    return Note(text=_text(entry), signatures=tuple(signatures)).encode()


def _text(entry: bytes) -> str:
    return entry.decode() + "\n"


class Publishers:
    """Who may publish: the public keys of at least two people."""

    def __init__(self, keys: Sequence[VerifierKey]) -> None:
        """Pin `keys`.

        Raises:
            ConfigError: one key, the same key or name twice, or a key that is not a publisher's.
        """
        publics, names = {key.public for key in keys}, {key.name for key in keys}
        if len(keys) == 1 or not len(keys) == len(publics) == len(names):
            raise ConfigError("publishing takes two keys at least, and each stands there once")
        if any(key.kind != ED25519 or not key.name.startswith(_PREFIX) for key in keys):
            raise ConfigError("a publisher's key is a note key whose name begins with publisher.")
        self._keys = tuple(keys)

    def release(self, submitted: bytes) -> bytes:
        """The entry in what was submitted, if two publishers have signed it.

        Raises:
            DecodeError: malformed, or not a release.
            PublishersError: one signature, one key twice, or a signature of somebody else.
            SignatureError: a publisher's signature that does not verify.
        """
        note = Note.parse(submitted)
        entry = note.text.removesuffix("\n").encode()
        Release.parse(entry)
        signers = [key for key in self._keys if note.signed_by(key)]
        if len(signers) < PUBLISHERS:
            raise PublishersError("a release needs the signatures of two publishers")
        if len(note.signatures) != len(signers):
            raise PublishersError("a release has a signature twice, or one of somebody who does not publish")
        return entry
