"""Directory documents as the operator makes them: put together, compared, signed, opened again (protocol section 3)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from sottovoce.core.errors import ConfigError, PeerError
from sottovoce.core.tokens import EPOCH_SECONDS, GRACE
from sottovoce.edge.keyfolder import EpochKey, PublicKeys
from sottovoce.tlog.entries import Directory, Host, Relay, Revocations, TokenKey
from sottovoce.tlog.note import Note, SigningKey, VerifierKey, sign_note

__all__ = [
    "Changes",
    "Plan",
    "directory_of",
    "next_directory",
    "open_directory",
    "sign_directory",
]


class _Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    origin: str
    quorum: int


class _Relay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    operator: str
    url: str
    carrier: Literal["flight"] | None = None
    """None for a relay that streams, as in the document."""


class _Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    role: str
    platform: str
    product: str
    hardware_id: str


class _Revoked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    releases: list[str] = []
    hosts: list[str] = []
    certificates: list[str] = []


class Changes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What becomes different with the next directory (TOML or JSON). What it leaves out stays; without a directory before, all must be there.

    Revocations are added to those that stand: none is ever taken back.
    """

    issuer: str | None = None
    relays: list[_Relay] | None = None
    hosts: list[_Host] | None = None
    revocations: _Revoked = _Revoked()
    log: _Log | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a directory is prepared from: the one before, if there is one, what changes, and the parties' public keys."""

    epoch: int
    current: Directory | None
    changes: Changes
    keys: Sequence[PublicKeys]


def next_directory(plan: Plan) -> Directory:
    """The unsigned directory. Token keys that the one before has announced for its epoch need not be given again.

    Raises:
        ConfigError: something is missing, or malformed.
    """
    current, changes, epoch = plan.current, plan.changes, plan.epoch
    gateways = [keys for keys in plan.keys if keys.party == "gateway"]
    issuers = [keys for keys in plan.keys if keys.party == "issuer"]
    if len(gateways) != 1 or gateways[0].epoch != epoch:
        raise ConfigError(f"it needs the gateway's public keys of epoch {epoch}, and no others")
    given = {(key.token_type, key.epoch) for keys in issuers for key in keys.token_keys}
    announced = [
        EpochKey(epoch=key.epoch, token_type=key.token_type, key=key.key)
        for key in (current.token_keys if current else ())
        if key.epoch == epoch and (key.token_type, key.epoch) not in given
    ]
    if announced:
        issuers.append(PublicKeys(party="issuer", epoch=epoch, token_keys=announced))
    revoked, more = (current.revocations if current else Revocations()), changes.revocations
    try:
        issuer = changes.issuer or _kept(current).issuer
        relays = _kept(current).relays if changes.relays is None else _relays(changes.relays)
        hosts = _kept(current).hosts if changes.hosts is None else _hosts(changes.hosts)
        log = changes.log or _Log(origin=_kept(current).log_origin, quorum=_kept(current).log_quorum)
        directory = directory_of(
            epoch,
            gateway=gateways[0],
            token_keys=issuers,
            issuer=issuer,
            relays=relays,
            hosts=hosts,
            origin=log.origin,
            quorum=log.quorum,
            revocations=Revocations(
                releases=revoked.releases | frozenset(more.releases),
                hosts=revoked.hosts | frozenset(more.hosts),
                certificates=revoked.certificates | frozenset(more.certificates),
            ),
        )
        # What was given is checked as a device will: by its parser.
        return Directory.parse(directory.encode())
    except PeerError as error:
        raise ConfigError(f"no directory can be made of this: {error}") from None


def _relays(given: Sequence[_Relay]) -> tuple[Relay, ...]:
    return tuple(Relay(operator=one.operator, url=one.url, streams=one.carrier is None) for one in given)


def _hosts(given: Sequence[_Host]) -> tuple[Host, ...]:
    return tuple(Host(**msgspec.structs.asdict(one)) for one in given)


def _kept(current: Directory | None) -> Directory:
    if current is None:
        raise ConfigError(
            "the first directory has nothing to keep", hint="--changes names issuer, relays, hosts and log"
        )
    return current


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
