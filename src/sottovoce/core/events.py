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
from typing import Any, TypeVar, dataclass_transform

from sottovoce.core.errors import UsageError

__all__ = ["Event", "EventLog", "event"]

_E = TypeVar("_E", bound="Event")
_FIELD_TYPES = (bool, int, float, Enum)


class Event:
    """Base of all log events; declare one with `@event`."""


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
