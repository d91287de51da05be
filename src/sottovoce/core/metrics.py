"""Metrics of what services log, and of nothing else.

Every number comes from a declared event (`core.events`), and every label is one of its words from a fixed list. So what cannot be logged cannot be measured, and there are as many
series as the declarations allow, whoever sends what.

    an event                   sottovoce_session_closed_total{role, code}           how often
    a whole number             sottovoce_served_sessions_total                      their sum
    one that is a state        sottovoce_keys_read_tokens                           the last one
    …_ms                       sottovoce_session_closed_duration_seconds{…}         a histogram
    …_bits                     sottovoce_session_closed_received_bits{…}            a histogram of classes of size
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from sottovoce.core.errors import DecodeError
from sottovoce.core.events import Event, decode_event

__all__ = ["EventMetrics", "Metric", "metrics_of"]

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_BITS: Final = (10, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24)
_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MS, _SIZE = "_ms", "_bits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is measured of a field of an event, or of the event itself (`field` is then empty)."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    field: str
    labels: tuple[str, ...]
    help: str


def metrics_of(event: type[Event]) -> Iterator[Metric]:
    """The metrics of a declared event."""
    fields = dataclasses.fields(event)  # type: ignore[arg-type]
    labels = tuple(
        f.name for f in fields if isinstance(f.type, type) and (issubclass(f.type, Enum) or f.type is bool)
    )
    name = f"sottovoce_{_CAPITAL.sub('_', event.__name__).lower()}"
    about = " ".join((event.__doc__ or "").split())
    yield Metric(name=f"{name}_total", kind="counter", field="", labels=labels, help=about)
    for one in fields:
        told = f"{event.__name__}.{one.name}"
        if one.name in labels or one.name in event.CODES:
            continue
        if one.name.endswith(_MS):
            base = f"{name}_{one.name.removesuffix(_MS)}_seconds"
            yield Metric(
                name=base, kind="histogram", field=one.name, labels=labels, help=f"{told}, in seconds"
            )
        elif one.name.endswith(_SIZE):
            yield Metric(
                name=f"{name}_{one.name}",
                kind="histogram",
                field=one.name,
                labels=labels,
                help=f"{told}, bits of the size",
            )
        elif one.name in event.STATE:
            yield Metric(
                name=f"{name}_{one.name}",
                kind="gauge",
                field=one.name,
                labels=(),
                help=f"{told}, the last one",
            )
        else:
            yield Metric(
                name=f"{name}_{one.name}_total",
                kind="counter",
                field=one.name,
                labels=(),
                help=f"{told}, their sum",
            )


class EventMetrics:
    """The metrics of all `events`, in a registry of their own."""

    def __init__(self, events: Iterable[type[Event]]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry: Final = CollectorRegistry()
        self._observers = {
            event: [self._observer(metric) for metric in metrics_of(event)] for event in events
        }
        self._refused = Counter(
            "sottovoce_lines_refused_total",
            "Lines that are no declared event. What they say is not kept",
            registry=self.registry,
        )

    def _observer(self, metric: Metric) -> Callable[[Event], None]:
        made: Counter | Gauge | Histogram
        if metric.kind == "counter":
            made = Counter(metric.name, metric.help, metric.labels, registry=self.registry)
        elif metric.kind == "gauge":
            made = Gauge(metric.name, metric.help, registry=self.registry)
        else:
            buckets = _BITS if metric.field.endswith(_SIZE) else _SECONDS
            made = Histogram(metric.name, metric.help, metric.labels, registry=self.registry, buckets=buckets)

        def observe(event: Event) -> None:
            words = [_word(getattr(event, label)) for label in metric.labels]
            of = made.labels(*words) if words else made
            value = getattr(event, metric.field) if metric.field else 1
            if isinstance(of, Counter):
                of.inc(max(0, value))
            elif isinstance(of, Gauge):
                of.set(value)
            else:
                of.observe(value / 1000 if metric.field.endswith(_MS) else value)

        return observe

    def take(self, line: bytes) -> None:
        """Count what a line of a log says; one that is no event counts as refused."""
        try:
            event = decode_event(line)
            observers = self._observers[type(event)]
        except (DecodeError, KeyError):
            self._refused.inc()
            return
        for observe in observers:
            observe(event)


def _word(value: Enum | Literal[True, False]) -> str:
    return str(value.value) if isinstance(value, Enum) else ("yes" if value else "no")
