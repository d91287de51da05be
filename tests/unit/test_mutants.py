"""The arguments about changes that no test notices are about the code as it is. Mutation testing itself takes too long for a test."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutation_page", ROOT / "scripts" / "mutation_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_argument_is_about_a_line_that_is_there() -> None:
    arguments = script().arguments()
    assert arguments
    for argument in arguments:
        text = " ".join((ROOT / "src" / "sottovoce" / "attest" / argument.file).read_text().split())
        assert argument.line in text, argument.line
        assert argument.changes
        assert argument.why
