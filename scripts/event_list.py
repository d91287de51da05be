"""Makes docs/log-events.md: every event that any service can log, from the declarations themselves.

python scripts/event_list.py > docs/log-events.md
"""

import dataclasses
import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

from sottovoce.cli.eventmetrics import Metric, metrics_of
from sottovoce.cli.metrics import events

HEAD: Final = """# Log events

Made by `python scripts/event_list.py` from the declarations. This is all that any service can log: an event is declared by name, and each field by a type that holds no
text (`core.events`). What a session's process inside a CVM sends on its way out is taken only if it is one of these, with exactly these fields in
bounds (`tee.logfilter`); anything else stays inside. A word is one of the list behind it.

`sottovoce metrics` makes numbers of them for Prometheus, and of nothing else ([operating.md](operating.md)): how often an event came, the sum or the last value of a whole
number, histograms of times (in seconds) and of sizes (in bits). Labels are the flags and words of an event. Numbers that are codes are not measured.
There are {most} series at most.
"""


def _type(kind: Any) -> str:
    if issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    return {bool: "yes or no", int: "whole number", float: "number"}[kind]


def _measured(metric: Metric) -> str:
    labels = f"{{{', '.join(metric.labels)}}}" if metric.labels else ""
    return f"{metric.kind} `{metric.name}{labels}`"


def page() -> Iterator[str]:
    """The lines of the page."""
    kinds = events()
    yield HEAD.format(most=f"{sum(metric.series for kind in kinds for metric in metrics_of(kind)) + 1:,}")
    module = ""
    for kind in kinds:
        if kind.__module__ != module:
            module = kind.__module__
            yield f"## {module.removeprefix('sottovoce.')}\n"
        whole, *others = metrics_of(kind)
        measured = dict.fromkeys(whole.labels, "label") | {one.field: _measured(one) for one in others}
        yield f"**{kind.__name__}**. {inspect.getdoc(kind)} It is the {_measured(whole)}.\n"
        yield "| field | values | metric |"
        yield "|---|---|---|"
        for field in dataclasses.fields(kind):  # type: ignore[arg-type]
            yield f"| `{field.name}` | {_type(field.type)} | {measured.get(field.name, 'none')} |"
        yield ""


def main() -> None:
    """Print the page."""
    print("\n".join(page()).rstrip())


if __name__ == "__main__":
    main()
