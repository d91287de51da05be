"""docs/flip-table.md is what scripts/flip_table.py finds, as far as a sample shows."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "flip-table.md"
STEP = 11


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flip_table", ROOT / "scripts" / "flip_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["flip_table"] = module
    spec.loader.exec_module(module)
    return module


FLIPS = load()


def written(title: str) -> dict[tuple[str, str], list[str]]:
    """The rows of a section of the page, by field and offset."""
    section = PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {(cells[0], cells[1]): cells for cells in lines[1:]}


def names(cell: str) -> set[str]:
    return set(cell.split(", ")) - {"-"}


def subjects(make: Any, number: int) -> Any:
    found = make()
    if len(found) <= number:
        pytest.skip("fixtures not here: ../shared/fixtures")
    return found[number]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("make", "number"),
    [
        ("simulated", 0),
        ("simulated", 1),
        ("simulated", 2),
        ("real", 0),
        ("real", 1),
        ("real", 2),
        ("real", 3),
    ],
)
def test_the_page_is_current(make: str, number: int) -> None:
    """Each 11th bit, so that every field is there and every place in a byte."""
    subject = subjects(getattr(FLIPS, make), number)
    rows = written(subject.title)
    found = list(FLIPS.rows(subject, step=STEP))
    assert len(found) == len(rows)
    for row in found:
        _, _, _, _, accepted, always, sometimes, why = rows[row.field.name, f"{row.field.at:#05x}"]
        assert row.ever <= names(always) | names(sometimes), row.field
        assert names(always) <= (row.always or set()), row.field
        assert not row.accepted or int(accepted), row.field
        assert (int(accepted) > 0) == (why != "-"), row.field
        assert "nobody says why" not in why, row.field


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_no_flip_of_real_evidence_is_accepted(number: int) -> None:
    subject = subjects(FLIPS.real, number)
    assert all(cells[4] == "0" for cells in written(subject.title).values())
    covered = sum(row.field.size for row in FLIPS.rows(subject, step=10_000_000))
    assert covered == len(subject.data)
