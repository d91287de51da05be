"""The page about real evidence is the one that the tables here make."""

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_evidence", ROOT / "scripts" / "real_evidence.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "real-evidence.md").read_text()
    assert page == "\n".join(script().page()).rstrip() + "\n"
