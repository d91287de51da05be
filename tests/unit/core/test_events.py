import enum
import json
from typing import Any

import pytest

from sottovoce.core.errors import UsageError
from sottovoce.core.events import Event, EventLog, event


class Outcome(enum.Enum):
    OK = "ok"


@event
class Served(Event):
    count: int
    outcome: Outcome


def test_an_event_is_one_json_line() -> None:
    lines: list[str] = []
    EventLog(lines.append).emit(Served(count=3, outcome=Outcome.OK))
    assert [json.loads(line) for line in lines] == [{"event": "Served", "count": 3, "outcome": "ok"}]
    assert lines[0].endswith("\n")


@pytest.mark.parametrize("kind", [str, bytes, object, "int | str", dict])
def test_a_field_that_could_carry_content_cannot_be_declared(kind: Any) -> None:
    with pytest.raises(UsageError):
        event(type("Leaky", (Event,), {"__annotations__": {"note": kind}}))


def test_a_value_of_another_type_is_not_written() -> None:
    lines: list[str] = []
    with pytest.raises(UsageError) as caught:
        EventLog(lines.append).emit(Served(count="canary", outcome=Outcome.OK))  # type: ignore[arg-type]
    assert "canary" not in str(caught.value)
    assert not lines
