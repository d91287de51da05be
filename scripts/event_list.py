"""Makes docs/log-events.md: every event that any service can log, from the declarations themselves.

python scripts/event_list.py > docs/log-events.md
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

import sottovoce
from sottovoce.core.events import Event

HEAD: Final = """# Log events

Made by `python scripts/event_list.py` from the declarations. This is all that any service can log: an event is declared by name, and each field by a type that holds no
text (`core.events`). What a session's process inside a CVM sends on its way out is taken only if it is one of these, with exactly these fields in
bounds (`tee.logfilter`); anything else stays inside. A word is one of the list behind it.
"""
_SKIPPED: Final = ("__main__",)


def events() -> list[type[Event]]:
    """All declared events, by module and name; every module of the package is imported to find them."""
    for found in pkgutil.walk_packages(sottovoce.__path__, "sottovoce."):
        if not found.name.endswith(_SKIPPED):
            importlib.import_module(found.name)
    # `@event` makes the class anew, with slots; the one before may still be there.
    kinds = {
        kind
        for kind in Event.__subclasses__()
        if "__slots__" in vars(kind) and kind.__module__.startswith("sottovoce.")
    }
    return sorted(kinds, key=lambda kind: (kind.__module__, kind.__name__))


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
        yield ""


def main() -> None:
    """Print the page."""
    print("\n".join(page()).rstrip())


if __name__ == "__main__":
    main()
