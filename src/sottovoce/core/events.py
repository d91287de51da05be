"""Log events: every one declared by name, every field by type.

A service can log nothing but an `Event`, and an event can hold nothing but counts, flags, durations,
size classes and words from a fixed list. There is no field for text, so content, tokens, keys,
addresses and tracebacks have no way into a log.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final, TypeVar, dataclass_transform

from sottovoce.core.errors import DecodeError, UsageError

__all__ = ["Event", "EventLog", "decode_event", "encode_event", "event"]

_E = TypeVar("_E", bound="Event")
_LIMIT: Final = 1024
"""Bytes of a line."""
_MAX: Final = 1 << 40
_FIELD_TYPES = (bool, int, float, Enum)


class Event:
    """Base of all log events; declare one with `@event`.

    Whole numbers are counts of what happened since the last such line, unless they are named here (`cli.eventmetrics`).
    """

    STATE: ClassVar[frozenset[str]] = frozenset()
    """Fields that say how many of something there are now."""
    CODES: ClassVar[frozenset[str]] = frozenset()
    """Fields that are numbers by name alone: a signal, a status."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def event(cls: type[_E]) -> type[_E]:
    """Declare a log event: frozen, keyword-only, fields of type bool, int, float or an Enum.

    Raises:
        UsageError: a field has another type.
    """
    frozen: type[_E] = dataclass(frozen=True, slots=True, kw_only=True)(cls)
    for field in dataclasses.fields(frozen):  # type: ignore[arg-type]
        if not (isinstance(field.type, type) and issubclass(field.type, _FIELD_TYPES)):
            raise UsageError(f"log event field {field.name} has a type that could carry content")
    return frozen


class EventLog:
    """Writes one JSON line an event to `write`."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write

    def emit(self, entry: Event) -> None:
        """Write `entry`.

        Raises:
            UsageError: a field's value is not of the field's type.
        """
        line: dict[str, Any] = {"event": type(entry).__name__}
        for field in dataclasses.fields(entry):  # type: ignore[arg-type]
            value = getattr(entry, field.name)
            if not isinstance(value, _FIELD_TYPES):
                raise UsageError(f"log event field {field.name} has a value of another type")
            line[field.name] = value.value if isinstance(value, Enum) else value
        self._write(json.dumps(line) + "\n")


def encode_event(entry: Event) -> bytes:
    """`entry` for the channel: what the log would write."""
    lines: list[str] = []
    EventLog(lines.append).emit(entry)
    return lines[0].encode()


def decode_event(data: bytes) -> Event:
    """The declared event in `data`.

    Raises:
        DecodeError: not declared, another field, another type, out of bounds.
    """
    try:
        value = json.loads(data) if len(data) <= _LIMIT else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("event"), str):
        raise DecodeError("this is not a log event")
    kind = _declared(value.pop("event"))
    if kind is None or set(value) != {field.name for field in dataclasses.fields(kind)}:
        raise DecodeError("this log event is not declared so")
    fields = {f.name: _field(f.type, value[f.name]) for f in dataclasses.fields(kind)}
    return kind(**fields)  # type: ignore[no-any-return]


def _declared(name: str) -> Any:
    # `@event` makes the class anew, with slots; the one before may still be there.
    kinds = (kind for kind in Event.__subclasses__() if kind.__name__ == name)
    return next((kind for kind in kinds if "__slots__" in vars(kind)), None)


def _field(kind: Any, value: Any) -> Any:
    if issubclass(kind, Enum):
        known = {member.value: member for member in kind}
        if isinstance(value, str | int) and value in known:
            return known[value]
    elif type(value) is kind and (kind is bool or abs(value) <= _MAX):
        return value
    raise DecodeError("a log event's field has a value that is not allowed")
