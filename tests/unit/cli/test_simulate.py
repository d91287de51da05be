import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner

from sottovoce.cli.simulate import simulate
from sottovoce.core.errors import ConfigError
from sottovoce.simulator.population import study as module


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer trials than a study needs; the same code."""
    monkeypatch.setattr(module, "_WISHES", 400)
    monkeypatch.setattr(module, "_AUDITS", 2)
    monkeypatch.setattr(module, "_SHARES", (1.0,))


SMALL = ["--devices", "60", "--days", "2"]


def test_the_table_says_that_the_population_is_simulated(tmp_path: Path) -> None:
    result = CliRunner().invoke(simulate, [*SMALL, "--out", str(tmp_path / "plots")])
    assert result.exit_code == 0
    assert "SIMULATED POPULATION" in result.stdout
    assert "SIMULATED POPULATION" in result.stderr
    assert "Bounds are promised for 10,000 active devices" in result.stdout
    for text in ("naive", "link one session to its account, of 60", "Clopper-Pearson", "operator names both"):
        assert text in result.stdout
    plots = sorted((tmp_path / "plots").iterdir())
    assert [path.name for path in plots] == ["gaps.svg", "linking.svg", "noticed.svg"]
    for path in plots:
        assert "(simulated)" in path.read_text()
        ET.fromstring(path.read_text())  # noqa: S314 - our own


def test_json_is_whole_and_the_same_for_the_same_seed() -> None:
    runs = [CliRunner().invoke(simulate, [*SMALL, "--json", "--seed", seed]) for seed in ("5", "5", "6")]
    documents = [json.loads(run.stdout) for run in runs]
    assert documents[0] == documents[1] != documents[2]
    first = documents[0]
    assert (first["format"], first["population"], first["settings"]["seed"]) == (
        "sottovoce-simulation",
        "simulated",
        5,
    )
    assert {row["id"] for row in first["rows"] if row["bound"] == 0.01} == {
        "link-one",
        "link-one-of-two",
        "link-pile",
        "tell-one",
        "aim",
    }
    for row in first["rows"]:
        for found in row["estimates"].values():
            assert found["low"] <= found["value"] <= found["high"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(simulate, [*SMALL, "--out", str(tmp_path / "file" / "plots")])
    assert isinstance(result.exception, ConfigError)


def test_without_numpy_the_command_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sottovoce.simulator.population.plots", None)
    result = CliRunner().invoke(simulate, SMALL)
    assert isinstance(result.exception, ConfigError)
    assert "sottovoce[simulate]" in result.exception.hint
