"""Configuration files of the services, as `sottovoce serve` reads them."""

import json
from pathlib import Path

import msgspec

__all__ = ["write_config"]


def write_config(path: Path, config: msgspec.Struct) -> None:
    """Write `config` as TOML: one line a name. TOML has no null, so what is None is left out."""
    members = {name: value for name, value in msgspec.to_builtins(config).items() if value is not None}
    path.write_text("".join(f"{_value(name)} = {_value(value)}\n" for name, value in members.items()))


def _value(value: object) -> str:
    # A JSON string, number or boolean is a TOML value too.
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_value(name)} = {_value(item)}" for name, item in value.items()) + " }"
    return json.dumps(value)
