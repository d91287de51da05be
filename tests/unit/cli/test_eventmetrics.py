"""Numbers for Prometheus: of declared events, and of nothing else."""

import dataclasses
import importlib
import itertools
import json
import pkgutil
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

import sottovoce
from script_kit import DOCS
from sottovoce.cli.eventmetrics import EventMetrics, metrics_of
from sottovoce.cli.metrics import MODULES, events
from sottovoce.core.events import Event, encode_event
from sottovoce.edge.gateway import KeysRead
from sottovoce.tee.logfilter import Code, Party, SessionClosed, WorkerLost

CLOSED = SessionClosed(
    role=Party.PREDICTOR,
    code=Code.CLOSED,
    requests=3,
    duration_ms=1500,
    cpu_ms=40.0,
    received_bits=13,
    sent_bits=15,
)


SUMS = {
    "Relayed": {"relayed", "directories", "refused", "failed", "broken_off"},
    "Routed": {
        "opened",
        "refused",
        "turns",
        "closed",
        "ended_by_cvm",
        "broken_off",
        "idle",
        "too_long",
    },
    "Served": {"sessions", "turns", "refused", "unopened", "replays", "broken_off", "store"},
    "SessionClosed": {"requests"},
    "TokensIssued": {"issued", "refused_account", "refused_quota", "refused_request", "failed"},
}
"""Fields that are added up. That a new one is an amount, and neither a state nor a code, is said here too."""


def series(metrics: EventMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample, as Prometheus reads it."""
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def words(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def test_every_declared_event_is_known() -> None:
    for found in pkgutil.walk_packages(sottovoce.__path__, "sottovoce."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    declared = {
        kind
        for kind in Event.__subclasses__()
        if "__slots__" in vars(kind) and kind.__module__.startswith("sottovoce.")
    }
    assert set(events()) == declared
    assert {kind.__module__ for kind in declared} == set(MODULES)


def test_every_field_has_its_metric_or_says_why_not() -> None:
    for kind in events():
        measured = {metric.field for metric in metrics_of(kind)}
        labels = {label for metric in metrics_of(kind) for label in metric.labels}
        names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        assert names >= kind.STATE | kind.CODES
        assert names - measured - labels == kind.CODES


def test_what_is_added_up_was_meant_to_be() -> None:
    found: dict[str, set[str]] = {}
    for kind in events():
        for metric in metrics_of(kind):
            if metric.kind == "counter" and metric.field:
                found.setdefault(kind.__name__, set()).add(metric.field)
    assert found == SUMS


def test_names_are_used_once() -> None:
    names = [metric.name for kind in events() for metric in metrics_of(kind)]
    assert len(set(names)) == len(names)


def test_what_an_event_counts() -> None:
    metrics = EventMetrics(events())
    metrics.take(encode_event(CLOSED))
    metrics.take(encode_event(dataclasses.replace(CLOSED, duration_ms=100, requests=1)))
    found = series(metrics)
    by = words(role="predictor", code="closed")
    assert found["sottovoce_session_closed_total", by] == 2
    assert found["sottovoce_session_closed_requests_total", by] == 4
    assert found["sottovoce_session_closed_duration_seconds_sum", by] == pytest.approx(1.6)
    assert found[
        "sottovoce_session_closed_duration_seconds_bucket", words(role="predictor", code="closed", le="0.1")
    ] == pytest.approx(1)
    assert found["sottovoce_session_closed_sent_bits_sum", by] == 30
    assert found["sottovoce_lines_refused_total", ()] == 0


def test_a_state_is_the_last_one_and_a_code_is_none() -> None:
    metrics = EventMetrics(events())
    read = {"event": "KeysRead", "refused": False, "fault": "none", "ohttp": 2, "tokens": 3, "batch": 0}
    for ohttp in (2, 1):
        metrics.take(json.dumps({**read, "ohttp": ohttp}).encode())
    metrics.take(encode_event(WorkerLost(role=Party.GUARD, signal=9, status=0)))
    found = series(metrics)
    assert found["sottovoce_keys_read_ohttp", ()] == 1
    assert found["sottovoce_keys_read_total", words(refused="no", fault="none")] == 2
    assert found["sottovoce_worker_lost_total", words(role="guard")] == 1
    assert not any("signal" in name for name, _ in found)
    assert KeysRead.__name__ == read["event"]


def test_counters_begin_at_zero_and_states_when_they_are_known() -> None:
    metrics = EventMetrics(events())
    found = series(metrics)
    for party in Party:
        assert found["sottovoce_worker_lost_total", words(role=party.value)] == 0
    assert found["sottovoce_served_sessions_total", ()] == 0
    states = {metric.name for kind in events() for metric in metrics_of(kind) if metric.kind == "gauge"}
    assert len(states) > 5
    assert not states & {name for name, _ in found}


def test_a_code_below_zero_is_no_reason_to_refuse() -> None:
    metrics = EventMetrics(events())
    metrics.take(encode_event(WorkerLost(role=Party.GUARD, signal=9, status=-9)))
    found = series(metrics)
    assert found["sottovoce_worker_lost_total", words(role="guard")] == 1
    assert found["sottovoce_lines_refused_total", ()] == 0


SECRET = "quokka-4711"
GOOD = json.loads(encode_event(CLOSED))


@pytest.mark.parametrize(
    "line",
    [
        SECRET.encode(),
        b"\xff\xfe",
        json.dumps({"event": SECRET}).encode(),
        json.dumps({**GOOD, "text": SECRET}).encode(),
        json.dumps({**GOOD, "code": SECRET}).encode(),
        json.dumps({**GOOD, "requests": SECRET}).encode(),
        json.dumps({**GOOD, "requests": 1 << 50}).encode(),
        json.dumps({**GOOD, "requests": -1}).encode(),
        json.dumps({**GOOD, "cpu_ms": -0.5}).encode(),
        json.dumps({**GOOD, "cpu_ms": float("nan")}).encode(),
        json.dumps({**GOOD, "cpu_ms": float("inf")}).encode(),
        json.dumps({"event": "Event"}).encode(),
        json.dumps([GOOD]).encode(),
        json.dumps({key: value for key, value in GOOD.items() if key != "role"}).encode(),
        b"[" * 100_000,
    ],
)
def test_anything_else_is_counted_and_forgotten(line: bytes) -> None:
    metrics = EventMetrics(events())
    before = series(metrics)
    metrics.take(line)
    after = series(metrics)
    assert after.pop(("sottovoce_lines_refused_total", ())) == 1
    assert before.pop(("sottovoce_lines_refused_total", ())) == 0
    assert after == before
    assert SECRET.encode() not in generate_latest(metrics.registry)


def _value(kind: Any) -> st.SearchStrategy[Any]:
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    return {bool: st.booleans(), int: st.integers(0, 1 << 40), float: st.floats(0, 1e9)}[kind]


@given(st.data())
def test_labels_are_words_of_the_declaration(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(events()))
    event = kind(**{field.name: data.draw(_value(field.type)) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]
    metrics = EventMetrics(events())
    metrics.take(encode_event(event))
    allowed = {"yes", "no"} | {
        str(member.value)
        for one in events()
        for field in dataclasses.fields(one)  # type: ignore[arg-type]
        if isinstance(field.type, type) and issubclass(field.type, Enum)
        for member in field.type
    }
    told = {value for _, labels in series(metrics) for label, value in labels if label != "le"}
    assert told <= allowed


def _all_labels(kind: Any) -> list[Any]:
    """All values of a label, one of another field."""
    if issubclass(kind, Enum):
        return list(kind)
    return [False, True] if kind is bool else [kind(1)]


def test_there_are_only_so_many_series() -> None:
    metrics = EventMetrics(events())
    for kind in events():
        fields = {field.name: field.type for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        for values in itertools.product(*(_all_labels(of) for of in fields.values())):
            metrics.take(encode_event(kind(**dict(zip(fields, values, strict=True)))))
    most = sum(metric.series for kind in events() for metric in metrics_of(kind)) + 1
    assert len(series(metrics)) == most < 5000
    assert f"{most:,} series" in (DOCS / "log-events.md").read_text()
