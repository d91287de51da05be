"""Chats kept on this machine, encrypted: under a passphrase, or under a key in the system's keyring.

One file, `chats.vault`, mode 0600, in the device's state directory: a line of JSON that says how its key is made, and one ciphertext.

    {"format": "sottovoce-chats", "key": "passphrase" | "keyring", "salt": hex, "version": 2}, a line feed,
    nonce (12 bytes) ‖ AES-256-GCM(key, nonce, chats as JSON, associated data: the line above)

A passphrase becomes a key by scrypt (RFC 7914) with N = 2^17, r = 8, p = 1: 128 MiB and some tenths of a second a try. Each time that it is
written, the nonce is drawn anew. Nothing of it can be read without the key, not even how many chats there are; its length shows roughly how much there is.
"""

import contextlib
import fcntl
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import keyring
import keyring.errors
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from sottovoce.app.shelf import Kept, Saved, Shelved
from sottovoce.core.errors import ConfigError, RefusedError, SottovoceError, UsageError
from sottovoce.device.chats import Chat, Kind, Message
from sottovoce.device.files import DiskError, exclusive, private_directory, write_private

__all__ = ["KeyringUnusable", "Opened", "Vault", "VaultCorrupt", "WrongPassphrase"]

_FILE: Final = "chats.vault"
_LOCK: Final = "chats.lock"
_FORMAT: Final = "sottovoce-chats"
_VERSION: Final = 2
_KEY, _NONCE, _SALT = 32, 12, 16
_LOG_N, _R, _P = 17, 8, 1
_HEAD: Final = 512
_LIMIT: Final = 1024 * 1024 * 1024
_SHORTEST: Final = 8
"""Characters of a passphrase at least: a shorter one is found by trying."""
_SERVICE: Final = "sottovoce"


class WrongPassphrase(RefusedError):  # noqa: N818 - it says what it was
    """The passphrase does not open the kept chats (or their file was changed, which looks the same)."""

    code = "refused.passphrase"


class VaultCorrupt(ConfigError):  # noqa: N818 - it says what the state is
    """The file of kept chats is not one that this program wrote."""

    code = "config.vault"


class KeyringUnusable(SottovoceError):  # noqa: N818 - it says what the state is
    """The system has no keyring that can be used, or it does not hold the key."""

    code = "config.keyring"


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    key: Literal["passphrase", "keyring"]
    salt: str
    version: int


class _Message(msgspec.Struct, array_like=True, frozen=True):
    time: datetime
    sender: str
    text: str
    kind: Kind
    line: int
    edited: bool

    def __repr__(self) -> str:
        return "<Message>"


class _Saved(msgspec.Struct, array_like=True, frozen=True):
    time: int
    report: str
    lines: list[tuple[str, list[str]]]
    chats: tuple[str, ...]

    def __repr__(self) -> str:
        return "<Saved>"


class _Chat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    title: str
    unread: int
    reader: str
    messages: list[_Message]
    unparsed: list[int]
    notes: list[str]
    saved: list[_Saved]

    def __repr__(self) -> str:
        return "<Chat>"


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    chats: list[_Chat]
    recaps: list[_Saved]

    def __repr__(self) -> str:
        return "<Content>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Opened:
    """What was kept, and what it takes to keep more."""

    kept: Kept
    head: bytes
    key: bytes

    def __repr__(self) -> str:
        return "<Opened>"


class Vault:
    """The kept chats in the state directory `home`: none, locked, or open."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = home / _FILE
        self._head = b""
        self._key = b""
        self._lock: int | None = None

    @property
    def exists(self) -> bool:
        """Whether chats are kept."""
        return self._path.exists()

    @property
    def is_open(self) -> bool:
        """Whether the key is known, so that changes can be kept."""
        return bool(self._key)

    @property
    def by_keyring(self) -> bool:
        """Whether the key of what is kept is in the system's keyring. Raises as `open`."""
        return self._read(2 * _HEAD)[0].key == "keyring"

    def create(self, passphrase: str | None) -> None:
        """Begin to keep chats, under `passphrase` or, without one, under a new key in the system's keyring.

        Raises:
            UsageError: chats are kept already, or the passphrase is too short.
            KeyringUnusable: there is no keyring.
        """
        if self.exists or self._key:
            raise UsageError("chats are kept already", hint="open what is kept, or delete it first")
        self._alone()
        salt = os.urandom(_SALT)
        head = _Head(
            format=_FORMAT,
            key="keyring" if passphrase is None else "passphrase",
            salt=salt.hex(),
            version=_VERSION,
        )
        if passphrase is None:
            key = os.urandom(_KEY)
            _keep_in_keyring(salt.hex(), key)
        else:
            if len(passphrase) < _SHORTEST:
                raise UsageError(f"a passphrase has at least {_SHORTEST} characters")
            key = _derived(passphrase, salt)
        self._head, self._key = msgspec.json.encode(head) + b"\n", key

    def open(self, passphrase: str | None) -> Opened:
        """What is kept. `hold` it, and changes can be kept from then on.

        Raises:
            WrongPassphrase: it does not open it.
            VaultCorrupt: the file is none of ours.
            KeyringUnusable: the key was in a keyring that is not to be had.
            UsageError: nothing is kept, or a passphrase is needed.
            RefusedError: another program has it open.
        """
        self._alone()
        head, raw, sealed = self._read()
        salt = bytes.fromhex(head.salt)
        if head.key == "keyring":
            key = _from_keyring(head.salt)
        elif passphrase is None:
            raise UsageError("the kept chats need their passphrase")
        else:
            key = _derived(passphrase, salt)
        try:
            plain = AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], raw)
        except InvalidTag:
            raise WrongPassphrase("the passphrase does not open the kept chats", hint="try again") from None
        try:
            content = msgspec.json.decode(plain, type=_Content)
            kept = Kept(
                chats=tuple(_shelved(one) for one in content.chats if one.messages),
                recaps=tuple(_restored(one) for one in content.recaps),
            )
        except (msgspec.DecodeError, UsageError, UnicodeError):
            raise self._corrupt() from None
        return Opened(kept=kept, head=raw, key=key)

    def hold(self, opened: Opened) -> None:
        """Keep changes from now on, as what was opened is kept."""
        self._head, self._key = opened.head, opened.key

    def write(self, kept: Kept) -> None:
        """Keep this, and nothing else, from now on.

        Raises:
            UsageError: it is not open.
            DiskError: the disk is full; what was kept before still is.
        """
        head, key = self._head, self._key
        if not key:
            raise UsageError("the kept chats are not open")
        content = _Content(
            chats=[_kept(one) for one in kept.chats], recaps=[_stored(one) for one in kept.recaps]
        )
        plain = msgspec.json.encode(content)
        if len(plain) > _LIMIT // 2:
            raise UsageError("that is more than can be kept", hint="remove some chats")
        nonce = os.urandom(_NONCE)
        private_directory(self._home)
        with exclusive(self._home):
            write_private(self._path, head + nonce + AESGCM(key).encrypt(nonce, plain, head))

    def delete(self) -> None:
        """Delete what is kept, and its key. What is on the shelf stays there.

        Raises:
            DiskError: the file cannot be deleted.
            RefusedError: another program has it open.
        """
        self._alone()
        if self.exists:
            with contextlib.suppress(VaultCorrupt, KeyringUnusable):
                head = self._read(2 * _HEAD)[0]
                if head.key == "keyring":
                    _drop_from_keyring(head.salt)
            try:
                self._path.unlink()
            except OSError:
                raise DiskError(
                    "the kept chats cannot be deleted", hint=f"delete {self._path} yourself"
                ) from None
        self._head = self._key = b""

    def close(self) -> None:
        """Forget the key, and let another program have what is kept."""
        self._head = self._key = b""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _alone(self) -> None:
        """Hold the lock of what is kept until this program ends: two that keep would lose each other's chats."""
        if self._lock is not None:
            return
        private_directory(self._home)
        try:
            lock = os.open(self._home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            raise DiskError("the kept chats cannot be locked", hint=f"looked at {self._home}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise RefusedError(
                "the kept chats are open in another program", hint="end the other one first"
            ) from None
        self._lock = lock

    def _read(self, limit: int = _LIMIT) -> tuple[_Head, bytes, bytes]:
        try:
            with self._path.open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            raise UsageError("no chats are kept here") from None
        except OSError:
            raise self._corrupt() from None
        raw, end, sealed = data[:_HEAD].partition(b"\n")
        sealed = data[len(raw) + 1 :]
        try:
            head = msgspec.json.decode(raw, type=_Head)
            salt = bytes.fromhex(head.salt)
        except (msgspec.DecodeError, UnicodeError, ValueError):
            raise self._corrupt() from None
        known = head.format == _FORMAT and head.version == _VERSION and len(salt) == _SALT
        if not end or not known or len(sealed) <= _NONCE or limit == _LIMIT < len(data):
            raise self._corrupt()
        return head, raw + b"\n", sealed

    def _corrupt(self) -> VaultCorrupt:
        return VaultCorrupt(
            "the file of kept chats is damaged, or of another version",
            hint=f"look at {self._path}; if you move it away, the app starts without kept chats",
        )


def _derived(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=_KEY, n=1 << _LOG_N, r=_R, p=_P).derive(
        passphrase.encode("utf-8", "replace")
    )


def _kept(one: Shelved) -> _Chat:
    messages = [_Message(m.time, m.sender, m.text, m.kind, m.line, m.edited) for m in one.chat.messages]
    return _Chat(
        id=one.id,
        title=one.chat.title,
        unread=one.unread,
        reader=one.reader,
        messages=messages,
        unparsed=list(one.chat.unparsed),
        notes=list(one.chat.notes),
        saved=[_stored(saved) for saved in one.saved],
    )


def _shelved(one: _Chat) -> Shelved:
    messages = tuple(
        Message(
            id=str(number),
            time=m.time,
            sender=m.sender,
            text=m.text,
            kind=m.kind,
            line=m.line,
            edited=m.edited,
        )
        for number, m in enumerate(one.messages, 1)
    )
    return Shelved(
        id=one.id,
        chat=Chat(title=one.title, messages=messages, unparsed=tuple(one.unparsed), notes=tuple(one.notes)),
        unread=one.unread,
        reader=one.reader,
        saved=[_restored(saved) for saved in one.saved],
    )


def _stored(one: Saved) -> _Saved:
    return _Saved(one.time, one.report, one.lines, one.chats)


def _restored(one: _Saved) -> Saved:
    return Saved(time=one.time, report=one.report, lines=one.lines, chats=one.chats)


def _keep_in_keyring(name: str, key: bytes) -> None:
    try:
        # Backends that keep it in the open, or nowhere, have no priority.
        usable = keyring.get_keyring().priority >= 1
        if usable:
            keyring.set_password(_SERVICE, name, key.hex())
            usable = keyring.get_password(_SERVICE, name) == key.hex()
    except keyring.errors.KeyringError:
        usable = False
    if not usable:
        raise _no_keyring()


def _from_keyring(name: str) -> bytes:
    try:
        key = bytes.fromhex(keyring.get_password(_SERVICE, name) or "")
    except (keyring.errors.KeyringError, ValueError):
        key = b""
    if len(key) != _KEY:
        raise _no_keyring()
    return key


def _drop_from_keyring(name: str) -> None:
    try:
        keyring.delete_password(_SERVICE, name)
    except keyring.errors.KeyringError:
        raise _no_keyring() from None


def _no_keyring() -> KeyringUnusable:
    return KeyringUnusable(
        "the system's keyring cannot be used", hint="unlock it, or keep the chats under a passphrase"
    )
