"""What a world's directory says of its relays."""

from pathlib import Path

import pytest

from sottovoce.core.errors import UsageError
from sottovoce.core.tokens import epoch_at
from sottovoce.simulator.configs import PARTIES, Configs
from sottovoce.simulator.models import ModelFile
from sottovoce.simulator.operator import host_of
from sottovoce.simulator.state import WorldState

NOW = 1_800_000_000
MODEL = ModelFile(name="none", path=Path("none"), sha256="", bytes=0)


@pytest.fixture
def state(tmp_path: Path) -> WorldState:
    state = WorldState(tmp_path, now=NOW)
    state.ports = dict.fromkeys(PARTIES, 4000)
    return state


def carriers(configs: Configs, state: WorldState) -> dict[str, str | None]:
    host = host_of("orchestrator-1", "orchestrator", state.chip("orchestrator-1"))
    relays = configs.directory(epoch_at(NOW), [host]).relays
    return {relay.operator: relay.members().get("carrier") for relay in relays}


def test_relays_stream_but_for_those_that_are_named(tmp_path: Path, state: WorldState) -> None:
    assert carriers(Configs(tmp_path, state, MODEL), state) == {
        "simulated relay 1": None,
        "simulated relay 2": None,
    }
    assert carriers(Configs(tmp_path, state, MODEL, flights=("relay-2",)), state) == {
        "simulated relay 1": None,
        "simulated relay 2": "flight",
    }


@pytest.mark.parametrize("name", ["relay-3", "gateway", ""])
def test_only_a_relay_carries_flights(tmp_path: Path, state: WorldState, name: str) -> None:
    with pytest.raises(UsageError, match="only a relay carries flights"):
        Configs(tmp_path, state, MODEL, flights=(name,))
