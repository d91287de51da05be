import json

import pytest

from sottovoce.core.counters import Counters
from sottovoce.core.events import Event, EventLog, event


@event
class Seen(Event):
    good: int
    bad: int


def test_counts_are_written_once_an_hour_and_at_the_end() -> None:
    lines: list[str] = []
    counters = Counters(EventLog(lines.append), Seen)
    counters.flush()
    for now in (10.0, 3599.0, 3600.0, 3601.0):
        counters.add("good", now)
    assert [json.loads(line) for line in lines] == [{"event": "Seen", "good": 2, "bad": 0}]
    counters.add("bad", 3602.0)
    counters.flush()
    counters.flush()
    assert json.loads(lines[1]) == {"event": "Seen", "good": 2, "bad": 1}
    assert len(lines) == 2


def test_an_unknown_name_is_a_bug() -> None:
    with pytest.raises(KeyError):
        Counters(EventLog(print), Seen).add("other", 0.0)
