"""Makes docs/log-events.md: every event that any service can log, from the declarations themselves.

python scripts/event_list.py > docs/log-events.md
"""

import dataclasses
import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

from sottovoce.cli.metrics import events
from sottovoce.core.metrics import metrics_of

HEAD: Final = """# Log events

Made by `python scripts/event_list.py` from the declarations. This is all that any service can log: an event is declared by name, and each field by a type that holds no
text (`core.events`). What a session's process inside a CVM sends on its way out is taken only if it is one of these, with exactly these fields in
bounds (`tee.logfilter`); anything else stays inside. A word is one of the list behind it.

`sottovoce metrics` makes numbers of them for Prometheus, and of nothing else: how often an event came, the sum or the last value of a whole number, histograms of times (in
seconds) and of sizes (in bits). Labels are the words of an event.

    sottovoce serve gateway --config gateway.toml 2>> gateway.log
    sottovoce metrics gateway.log
    curl http://127.0.0.1:9464/metrics
"""


def _type(kind: Any) -> str:
    if issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    return {bool: "yes or no", int: "whole number", float: "number"}[kind]


def page() -> Iterator[str]:
    """The lines of the page."""
    yield HEAD
    module = ""
    for kind in events():
        if kind.__module__ != module:
            module = kind.__module__
            yield f"## {module.removeprefix('sottovoce.')}\n"
        yield f"**{kind.__name__}**. {inspect.getdoc(kind)}\n"
        yield "| field | values |"
        yield "|---|---|"
        for field in dataclasses.fields(kind):  # type: ignore[arg-type]
            yield f"| `{field.name}` | {_type(field.type)} |"
        yield f"\nMetrics: {', '.join(f'`{metric.name}`' for metric in metrics_of(kind))}\n"


def main() -> None:
    """Print the page."""
    print("\n".join(page()).rstrip())


if __name__ == "__main__":
    main()
