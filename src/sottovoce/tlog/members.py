"""How entries of the log are read: canonical JSON objects, told apart by `kind` (protocol section 10).

A parser accepts its own kind only, so one kind of entry can never stand for another.
"""

import re
from typing import Any, Final

from sottovoce.core import canonical
from sottovoce.core.errors import DecodeError
from sottovoce.core.limits import LIMITS

__all__ = ["KINDS", "SHA256", "EntryKindError", "Members", "kind_of", "open_entry"]

_ENTRY: Final = 256 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
SHA256: Final = re.compile(r"[0-9a-f]{64}")
KINDS: Final = ("release", "directory", "host", "artifact")
"""Every kind of entry that there is (protocol section 10)."""


class EntryKindError(DecodeError):
    """A log entry of another kind than the one asked for."""

    code = "peer.decode.entry-kind"


class Members:
    """Takes typed members out of one JSON object. What is missing, malformed or left over is a DecodeError that repeats nothing of it."""

    def __init__(self, value: Any, what: str) -> None:
        """Look into `value`, which errors call `what`."""
        if not isinstance(value, dict):
            raise DecodeError(f"{what} is not an object")
        self._members = dict(value)
        self._what = what

    def _bad(self, name: str) -> DecodeError:
        return DecodeError(f"{self._what} has a missing or malformed member: {name}")

    def text(self, name: str, pattern: re.Pattern[str] = _NAME) -> str:
        """A text that matches whole."""
        value = self._members.pop(name, None)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self._bad(name)
        return value

    def has(self, name: str) -> bool:
        """Whether there is such a member, not taken yet."""
        return name in self._members

    def integer(self, name: str) -> int:
        """A number that is not negative."""
        value = self._members.pop(name, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._bad(name)
        return value

    def items(self, name: str, limit: int = 10_000) -> list[Any]:
        """A list of at most `limit` items."""
        value = self._members.pop(name, None)
        if not isinstance(value, list) or len(value) > limit:
            raise self._bad(name)
        return value

    def texts(self, name: str, pattern: re.Pattern[str] = _NAME) -> tuple[str, ...]:
        """A list of texts, each of which matches whole."""
        values = self.items(name)
        if not all(isinstance(item, str) and pattern.fullmatch(item) for item in values):
            raise self._bad(name)
        return tuple(values)

    def object(self, name: str) -> "Members":
        """The members of an object in this one."""
        return Members(self._members.pop(name, None), f"{self._what}.{name}")

    def end(self) -> None:
        """Nothing may be left."""
        if self._members:
            raise DecodeError(f"{self._what} has an unknown member")


def open_entry(data: bytes, kind: str, *, limit: int = _ENTRY) -> Members:
    """The members of a log entry, its kind already taken.

    Raises:
        EntryKindError: an entry of another kind.
        DecodeError: not canonical JSON, no object, or longer than `limit` bytes.
    """
    reader = Members(canonical.decode(data, limit=limit), kind)
    try:
        reader.text("kind", re.compile(kind))
    except DecodeError:
        raise EntryKindError(f"the log entry is not of the kind {kind}") from None
    return reader


def kind_of(data: bytes) -> str:
    """The kind that an entry says it is; it may be one that there is not.

    Raises:
        DecodeError: not canonical JSON with a kind.
    """
    value = canonical.decode(data, limit=LIMITS.directory)
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        raise DecodeError("the log entry has no kind")
    return kind
