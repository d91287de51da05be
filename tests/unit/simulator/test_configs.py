"""What a world's directory says of its relays, and which of its machines are used."""

from pathlib import Path

import pytest

from sottovoce.core.errors import UsageError
from sottovoce.core.tokens import epoch_at
from sottovoce.simulator.configs import MACHINES, PARTIES, Change, Configs
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


def test_a_machine_with_an_image_is_the_only_one_of_its_role(tmp_path: Path, state: WorldState) -> None:
    configs = Configs(tmp_path, state, MODEL)
    assert configs.machines == MACHINES
    assert configs.machine("orchestrator-1", Change()).image == ""
    configs.images["orchestrator-1"] = tmp_path / "image"
    configs.programs = "/programs"
    assert set(configs.machines) == set(MACHINES) - {"orchestrator-2"}
    made = configs.machine("orchestrator-1", Change())
    assert (made.image, made.programs) == (str(tmp_path / "image"), "/programs")
    assert configs.machine("guard-1", Change()).image == ""
    router = configs.service("router", Change())
    assert [host.id for host in router.hosts] == ["orchestrator-1"]  # type: ignore[attr-defined]
