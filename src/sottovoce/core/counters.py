"""Counts for a log that says how much, and not when or who: one event an hour at most, and one at the end."""

import dataclasses
from typing import Final

from sottovoce.core.events import Event, EventLog

__all__ = ["Counters"]

_HOUR: Final = 3600


class Counters:
    """Counts by the names of an event's fields, all of type int, since the last event of its kind."""

    def __init__(self, log: EventLog, kind: type[Event]) -> None:
        self._log = log
        self._kind = kind
        self._hour = 0
        self._counts = dict.fromkeys((field.name for field in dataclasses.fields(kind)), 0)  # type: ignore[arg-type]

    def add(self, name: str, now: float, count: int = 1) -> None:
        """Count `count` of `name` at `now` (seconds of any clock); writes what an earlier hour has left."""
        hour = int(now // _HOUR)
        if hour != self._hour:
            self.flush()
            self._hour = hour
        self._counts[name] += count

    def flush(self) -> None:
        """Write the counts, if there are any, and begin again."""
        if any(self._counts.values()):
            self._log.emit(self._kind(**self._counts))
        self._counts = dict.fromkeys(self._counts, 0)
