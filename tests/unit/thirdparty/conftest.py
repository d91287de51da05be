from pathlib import Path

import pytest

from log_world import World
from sottovoce.thirdparty import cosigners


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A log's folder, before it is started."""
    return World(folder=tmp_path)


@pytest.fixture(autouse=True)
def _patient_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log leaves out no witness for a slow machine's sake; where a test is about a slow one, it says so."""
    monkeypatch.setattr(cosigners, "_GRACE", 60.0)
    monkeypatch.setattr(cosigners, "_TIMEOUT", 60.0)
