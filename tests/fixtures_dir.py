"""Where the official vectors and the real hardware evidence are, if they are there at all."""

from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_CHECKOUT = _ROOT.parent if _ROOT.name == "mutants" else _ROOT  # where mutmut puts its copy
FIXTURES = _CHECKOUT.parent / "shared" / "fixtures"


def need(name: str) -> Path:
    """The path of a fixture; skips the test, saying so, where it is absent."""
    path = FIXTURES / name
    if not path.exists():
        pytest.skip(f"fixture not here: ../shared/fixtures/{name}")
    return path
