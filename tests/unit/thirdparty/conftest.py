from pathlib import Path

import pytest

from log_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A log's folder, before it is started."""
    return World(folder=tmp_path)
