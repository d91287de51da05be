"""What the user has agreed to: opt-in to private processing, and chats that it must never touch.

One file, `settings.json`, canonical JSON, mode 0600, in the device's state directory (0700):

    {"enabled": null | {"since": unix seconds, "text_version": int},
     "private": [{"chat": chat id, "since": unix seconds, "title": str}, …],
     "version": 1}

Absent means off. A file that is wrong means off as well, and is never overwritten: it may hold a mark on a chat
that the user relies on.
"""

import dataclasses
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError, DecodeError, RefusedError
from sottovoce.device.files import exclusive, private_directory, write_private

__all__ = [
    "CONSENT_TEXT",
    "CONSENT_VERSION",
    "ChatIsPrivate",
    "NotEnabled",
    "OptIn",
    "PrivateChat",
    "Settings",
    "SettingsCorrupt",
    "SettingsStore",
    "same_chat",
]

CONSENT_VERSION: Final = 2
"""Raise it whenever the meaning of `CONSENT_TEXT` changes: everyone is then asked again."""

CONSENT_TEXT: Final = """\
Private processing is off until you turn it on. When it is on:

  - Only when you ask for a summary or for help with a draft, the messages
    concerned (or the draft) leave this device. No message is sent on its own.
  - At times of its own, this device fetches anonymous tokens and the list of
    the machines ahead of use. Who gives the tokens learns that your account
    has this turned on, and cannot tell when, or for what, one is used.
  - They go, encrypted, to a machine that proves which software it runs. This
    device checks that proof first and sends nothing if any check fails.
  - That machine keeps nothing: messages, answer and keys are gone when the
    request ends. Nobody who operates it, carries the data or hosts it can
    read them.
  - The messages of other people in the chat are sent as well. They are not
    asked.
  - What is written can be wrong. Every line of a summary says which messages
    it rests on.
  - A report of every request stays on this device: what was sent to what, and
    what was verified.

You can turn it off again at any time, and you can mark single chats as
private: they are then always refused."""

_FILE: Final = "settings.json"
_LIMIT: Final = 4 * 1024 * 1024
_VERSION: Final = 1


class NotEnabled(RefusedError):  # noqa: N818 - it says what the state is
    """Private processing is off, so nothing was sent."""

    code = "refused.not-enabled"


class ChatIsPrivate(RefusedError):  # noqa: N818 - it says what the state is
    """The chat is marked with Advanced Chat Privacy, so nothing was sent."""

    code = "refused.chat-private"


class SettingsCorrupt(ConfigError):  # noqa: N818 - it says what the state is
    """The settings file is not one that this program wrote. Private processing counts as off."""

    code = "config.settings"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptIn:
    """When (unix seconds) the user agreed, and to which version of the text."""

    since: int
    text_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateChat:
    """A chat that is never processed. `title` is for the user's eyes; only `chat` counts."""

    chat: str
    since: int
    title: str

    def __repr__(self) -> str:
        return "<PrivateChat>"


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    version: int
    enabled: OptIn | None
    private: tuple[PrivateChat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The state of the settings at one moment."""

    enabled: OptIn | None = None
    private: tuple[PrivateChat, ...] = ()

    def require_enabled(self) -> None:
        """Return if the user has agreed to the present text.

        Raises:
            NotEnabled: off, or agreed to an older text.
        """
        if self.enabled is None:
            raise NotEnabled(
                "private processing is off", hint="`sottovoce settings enable` says what it means"
            )
        if self.enabled.text_version != CONSENT_VERSION:
            raise NotEnabled(
                "what private processing means has changed since you turned it on",
                hint="`sottovoce settings enable` shows the new text",
            )

    def require_allowed(self, chat_id: str) -> None:
        """Return if the chat may be processed.

        Raises:
            ChatIsPrivate: it is marked.
        """
        if any(same_chat(mark.chat, chat_id) for mark in self.private):
            raise ChatIsPrivate(
                "this chat is marked as private",
                hint="`sottovoce settings allow CHAT` removes the mark; `sottovoce settings private CHAT` had set it",
            )


def same_chat(one: str, other: str) -> bool:
    """Whether two chat ids mean the same chat: a part of one is a part of the other.

    An id has two parts, one from the title and one from the chat's beginning (`chats.chat_id`): either alone
    is enough, so that neither renaming the file nor a later export gets around a mark.
    """
    return not set(one.split("-")).isdisjoint(other.split("-"))


class SettingsStore:
    """The settings file in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / _FILE

    def load(self) -> Settings:
        """Read the settings; absent means all off.

        Raises:
            SettingsCorrupt: unreadable, not in the known form, or open to other users.
        """
        data = self._read()
        if data is None:
            return Settings()
        try:
            canonical.decode(data, limit=_LIMIT)
            document = msgspec.json.decode(data, type=_Document)
        except (DecodeError, msgspec.DecodeError, UnicodeError, RecursionError):
            raise self._corrupt("the settings file is damaged") from None
        if document.version != _VERSION:
            raise self._corrupt("the settings file is of another version")
        return Settings(enabled=document.enabled, private=document.private)

    def enable(self, *, now: int, text_version: int = CONSENT_VERSION) -> None:
        """Note that the user agreed, at `now` (unix seconds), to that version of the text.

        Raises:
            SettingsCorrupt: the present file is wrong; it is left alone.
            DiskError: the file cannot be written.
        """
        opt_in = OptIn(since=now, text_version=text_version)
        self._change(lambda old: dataclasses.replace(old, enabled=opt_in))

    def disable(self) -> None:
        """Turn private processing off; marks on chats stay. Raises as `enable`."""
        self._change(lambda old: dataclasses.replace(old, enabled=None))

    def mark_private(self, chat_id: str, *, title: str, now: int) -> None:
        """Never process this chat. Raises as `enable`."""
        mark = PrivateChat(chat=chat_id, since=now, title=title)

        def add(old: Settings) -> Settings:
            if any(known.chat == chat_id for known in old.private):
                return old
            return dataclasses.replace(old, private=(*old.private, mark))

        self._change(add)

    def allow(self, chat_id: str) -> bool:
        """Remove the marks that stop this chat; whether there was one. Raises as `enable`."""

        def remove(old: Settings) -> Settings:
            kept = tuple(mark for mark in old.private if not same_chat(mark.chat, chat_id))
            return dataclasses.replace(old, private=kept)

        return self._change(remove)

    def require_enabled(self) -> None:
        """See `Settings.require_enabled`; also raises SettingsCorrupt."""
        self.load().require_enabled()

    def require_allowed(self, chat_id: str) -> None:
        """See `Settings.require_allowed`; also raises SettingsCorrupt."""
        self.load().require_allowed(chat_id)

    def _change(self, change: Callable[[Settings], Settings]) -> bool:
        private_directory(self._directory)
        with exclusive(self._directory):
            old = self.load()
            new = change(old)
            document = _Document(version=_VERSION, enabled=new.enabled, private=new.private)
            write_private(self._path, canonical.encode(msgspec.to_builtins(document)))
        return new != old

    def _read(self) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read(_LIMIT + 1)
        except FileNotFoundError:
            return None
        except OSError:
            raise self._corrupt("the settings file cannot be read") from None
        # Whoever else can write here could opt the user in, or take a mark away.
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise self._corrupt("the settings file can be changed by other users")
        return data

    def _corrupt(self, what: str) -> SettingsCorrupt:
        return SettingsCorrupt(
            f"{what}, so private processing is off",
            hint=f"look at {self._path}; if you move it away, everything starts as off and no chat is marked",
        )
