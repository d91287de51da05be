"""transparency-dev/merkle's test data (Apache-2.0); see ../shared/fixtures/PROVENANCE.tsv."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from fixtures_dir import FIXTURES, need
from sottovoce.tlog import merkle

FOLDER = "transparency/merkle"
CASES = {kind: sorted((FIXTURES / FOLDER / kind).rglob("*.json")) for kind in ("inclusion", "consistency")}


def b64(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def load(path: Path) -> Any:
    case = json.loads(path.read_text())
    case["proof"] = [b64(node) for node in case["proof"] or []]
    return case


def check_inclusion(case: Any) -> None:
    merkle.verify_inclusion(
        leaf=b64(case["leafHash"]),
        index=case["leafIdx"],
        size=case["treeSize"],
        path=case["proof"],
        root=b64(case["root"]),
    )


def check_consistency(case: Any) -> None:
    merkle.verify_consistency(
        old_size=case["size1"],
        old_root=b64(case["root1"]),
        size=case["size2"],
        root=b64(case["root2"]),
        path=case["proof"],
    )


def test_the_fixtures_are_whole() -> None:
    need(FOLDER)
    assert len(CASES["inclusion"]) > 50
    assert len(CASES["consistency"]) > 50


@pytest.mark.parametrize("path", CASES["inclusion"], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_inclusion(path: Path) -> None:
    case = load(path)
    if not case["wantErr"]:
        return check_inclusion(case)
    with pytest.raises(merkle.InclusionError):
        check_inclusion(case)
    return None


@pytest.mark.parametrize("path", CASES["consistency"], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_consistency(path: Path) -> None:
    case = load(path)
    if not case["wantErr"]:
        return check_consistency(case)
    with pytest.raises(merkle.ConsistencyError):
        check_consistency(case)
    return None
