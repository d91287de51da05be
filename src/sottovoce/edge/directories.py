"""Directory documents as the operator makes them: put together, signed, opened again (protocol section 3)."""

from collections.abc import Iterable, Sequence

from sottovoce.core.errors import ConfigError, PeerError
from sottovoce.core.tokens import EPOCH_SECONDS, GRACE
from sottovoce.edge.keyfolder import PublicKeys
from sottovoce.tlog.entries import Directory, Host, Relay, Revocations, TokenKey
from sottovoce.tlog.note import Note, SigningKey, VerifierKey, sign_note

__all__ = ["directory_of", "open_directory", "sign_directory"]


def directory_of(
    epoch: int,
    *,
    gateway: PublicKeys,
    token_keys: Iterable[PublicKeys],
    issuer: str,
    relays: Sequence[Relay],
    hosts: Sequence[Host],
    origin: str,
    quorum: int,
    revocations: Revocations | None = None,
) -> Directory:
    """The directory of `epoch` (days since 1970, UTC) with the gateway's keys and the issuer's of several epochs."""
    keys = sorted(
        (key for public in token_keys for key in public.token_keys),
        key=lambda key: (key.token_type, key.epoch),
    )
    return Directory(
        epoch=epoch,
        not_before=epoch * EPOCH_SECONDS - GRACE,
        not_after=(epoch + 1) * EPOCH_SECONDS + GRACE,
        ohttp_key_configs=gateway.ohttp_key_configs,
        token_keys=tuple(TokenKey(epoch=key.epoch, token_type=key.token_type, key=key.key) for key in keys),
        issuer=issuer,
        relays=tuple(relays),
        hosts=tuple(hosts),
        revocations=revocations or Revocations(),
        log_origin=origin,
        log_quorum=quorum,
    )


def sign_directory(directory: Directory, key: SigningKey) -> bytes:
    """The note: the document, a newline, and the signature (C2SP signed-note)."""
    return sign_note(directory.encode().decode() + "\n", [key]).encode()


def open_directory(data: bytes, key: VerifierKey) -> Directory:
    """The document in a note that `key` has signed.

    Raises:
        ConfigError: no note, no directory in it, or not signed by this key.
    """
    try:
        note = Note.parse(data)
        signed = note.signed_by(key)
        directory = Directory.parse(note.text.removesuffix("\n").encode())
    except PeerError as error:
        raise ConfigError(f"the directory cannot be used: {error}") from None
    if not signed or len(note.signatures) != 1:
        raise ConfigError(
            "the directory is not signed by the directory's key alone", hint="have it signed: directory sign"
        )
    return directory
