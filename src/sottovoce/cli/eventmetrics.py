"""Metrics of what services log, and of nothing else.

Every number comes from a declared event (`core.events`), and every label is one of its flags or words from a fixed list. So what cannot be logged
cannot be measured, and there are as many series as the declarations allow, whoever sends what.

    an event                   sottovoce_session_closed_total{role, code}             how often
    a whole number             sottovoce_session_closed_requests_total{role, code}    their sum
    one that is a state        sottovoce_keys_read_tokens                             the last one
    one that is a code         none                                                   it is no amount
    …_ms                       sottovoce_session_closed_duration_seconds{role, code}  a histogram
    …_bits                     sottovoce_session_closed_received_bits{role, code}     a histogram of classes of size
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from sottovoce.core.errors import DecodeError
from sottovoce.core.events import Event, decode_event

__all__ = ["EventMetrics", "Metric", "metrics_of"]

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_BITS: Final = (10, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24)
_BESIDE_BUCKETS: Final = 3
"""A histogram's series that are no bucket of these: the last bucket, sum and count."""
_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MS, _SIZE = "_ms", "_bits"
_FLAG: Final = ("no", "yes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is measured of a field of an event, or of the event itself (`field` is then empty)."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    field: str
    labels: Mapping[str, tuple[str, ...]]
    """Each label with all its words."""
    help: str
    buckets: tuple[float, ...] = ()
    """Upper bounds, of a histogram alone."""

    @property
    def series(self) -> int:
        """How many series there can be at most."""
        each = len(self.buckets) + _BESIDE_BUCKETS if self.buckets else 1
        return each * math.prod(len(words) for words in self.labels.values())

    def value(self, event: Event) -> float:
        """What `event` adds to it, or sets it to."""
        value: float = getattr(event, self.field) if self.field else 1
        return value / 1000 if self.field.endswith(_MS) else value

    def words(self, event: Event) -> tuple[str, ...]:
        """The words of its labels that `event` has."""
        return tuple(_word(getattr(event, label)) for label in self.labels)


def metrics_of(event: type[Event]) -> Iterator[Metric]:
    """The metrics of a declared event."""
    fields = dataclasses.fields(event)  # type: ignore[arg-type]
    labels = {field.name: words for field in fields if (words := _words(field.type))}
    name = f"sottovoce_{_CAPITAL.sub('_', event.__name__).lower()}"
    about = " ".join((event.__doc__ or "").split())
    yield Metric(name=f"{name}_total", kind="counter", field="", labels=labels, help=about)
    for field in (one.name for one in fields if one.name not in labels.keys() | event.CODES):
        told = f"{event.__name__}.{field}"
        if field.endswith(_MS):
            yield Metric(
                name=f"{name}_{field.removesuffix(_MS)}_seconds",
                kind="histogram",
                field=field,
                labels=labels,
                help=f"{told}, in seconds",
                buckets=_SECONDS,
            )
        elif field.endswith(_SIZE):
            yield Metric(
                name=f"{name}_{field}",
                kind="histogram",
                field=field,
                labels=labels,
                help=f"{told}, bits of the size",
                buckets=_BITS,
            )
        elif field in event.STATE:
            yield Metric(
                name=f"{name}_{field}", kind="gauge", field=field, labels={}, help=f"{told}, the last one"
            )
        else:
            yield Metric(
                name=f"{name}_{field}_total",
                kind="counter",
                field=field,
                labels=labels,
                help=f"{told}, their sum",
            )


class EventMetrics:
    """The metrics of all `events`, in a registry of their own."""

    def __init__(self, events: Iterable[type[Event]]) -> None:
        from prometheus_client import CollectorRegistry, Counter, disable_created_metrics

        disable_created_metrics()  # type: ignore[no-untyped-call]  # of the whole process; nothing else in it has metrics
        self.registry: Final = CollectorRegistry()
        self._measured = {
            event: [(metric, self._make(metric)) for metric in metrics_of(event)] for event in events
        }
        self._refused = Counter(
            "sottovoce_lines_refused_total",
            "Lines that are no declared event. What they say is not kept",
            registry=self.registry,
        )

    def _make(self, metric: Metric) -> Callable[[tuple[str, ...], float], None]:
        """Make `metric`, and a function that takes the words of its labels and a value."""
        from prometheus_client import Counter, Gauge, Histogram

        name, about, labels = metric.name, metric.help, tuple(metric.labels)
        if metric.kind == "histogram":
            histogram = Histogram(name, about, labels, registry=self.registry, buckets=metric.buckets)
            return lambda words, value: _at(histogram, words).observe(value)
        if metric.kind == "counter":
            counter = Counter(name, about, labels, registry=self.registry)
            # At zero from the start: Prometheus sees no increase in a series that begins at one.
            for words in itertools.product(*metric.labels.values()):
                _at(counter, words)
            return lambda words, value: _at(counter, words).inc(value)
        gauge = Gauge(name, about, registry=None)
        shown = False

        def put(_words: tuple[str, ...], value: float) -> None:
            nonlocal shown
            gauge.set(value)
            if not shown:  # until it is known it is not zero
                self.registry.register(gauge)
                shown = True

        return put

    def take(self, line: bytes) -> None:
        """Count what a line of a log says; one that is no event, or has less than nothing in it, counts as refused."""
        try:
            event = decode_event(line)
            measured = self._measured[type(event)]
        except (DecodeError, KeyError):
            self._refused.inc()
            return
        values = [metric.value(event) for metric, _ in measured]
        if min(values) < 0:
            self._refused.inc()
            return
        for (metric, put), value in zip(measured, values, strict=True):
            put(metric.words(event), value)


def _words(kind: Any) -> tuple[str, ...]:
    """All words that a field of type `kind` can be as a label; none if it is none."""
    if issubclass(kind, Enum):
        return tuple(_word(member) for member in kind)
    return _FLAG if kind is bool else ()


def _word(value: Any) -> str:
    return str(value.value) if isinstance(value, Enum) else _FLAG[value]


def _at(metric: Any, words: tuple[str, ...]) -> Any:
    return metric.labels(*words) if words else metric
