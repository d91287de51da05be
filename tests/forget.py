"""Tests that do not see what earlier ones had parsed, nor let a change of the code hide behind it."""

import sys

__all__ = ["forget"]


def forget() -> None:
    """Empty every cache of attest's."""
    for name, module in list(sys.modules.items()):
        if name.startswith("sottovoce.attest"):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
