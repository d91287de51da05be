"""Parties are stopped once; ports are bound before anybody is started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sottovoce.core.errors import ConfigError, UnavailableError
from sottovoce.simulator.processes import Parties, bind


@pytest.fixture
def parties(tmp_path: Path) -> Parties:
    config = tmp_path / "mirror.toml"
    (tmp_path / "files").mkdir()
    config.write_text(f'folder = "{tmp_path / "files"}"\n')
    parties = Parties(tmp_path / "logs")
    parties.start("mirror", "cdn", config, bind())
    return parties


def test_stopping_twice_closes_nothing_of_others(parties: Parties) -> None:
    parties.wait_ready()
    parties.stop_one("mirror")
    # These take the numbers that have just become free.
    mine = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
    parties.stop_one("mirror")
    parties.stop()
    for descriptor in mine:
        os.fstat(descriptor)
        os.close(descriptor)


def test_a_stopped_party_did_not_die_by_itself(parties: Parties) -> None:
    parties.wait_ready()
    pid = parties.pids["mirror"]
    assert parties.dead() == []
    parties.stop()
    assert parties.dead() == []
    assert not Path(f"/proc/{pid}").exists()


def test_a_party_that_does_not_start_is_named_with_its_own_line(tmp_path: Path) -> None:
    config = tmp_path / "mirror.toml"
    config.write_text('folder = "/nonexistent/folder"\n')
    parties = Parties(tmp_path / "logs")
    parties.start("mirror", "cdn", config, bind())
    with pytest.raises(UnavailableError, match="mirror did not start") as error:
        parties.wait_ready()
    assert error.value.hint.startswith("sottovoce: the mirror's folder is not there")
    parties.stop()


def test_a_taken_port_is_said_before_anything_starts() -> None:
    with bind() as taken, pytest.raises(ConfigError, match="is taken"):
        bind(taken.getsockname()[1])


def test_a_party_whose_starter_is_gone_before_it_begins_ends(tmp_path: Path) -> None:
    config = tmp_path / "mirror.toml"
    config.write_text(f'folder = "{tmp_path}"\n')
    read, write = os.pipe()
    os.close(read)
    with bind() as listener:
        command = [sys.executable, "-P", "-m", "sottovoce", "serve", "cdn", "--config", str(config)]
        command += ["--fd", str(listener.fileno()), "--ready-fd", str(write)]
        # It would serve for ever otherwise.
        done = subprocess.run(command, pass_fds=(listener.fileno(), write), timeout=60, check=False)
    os.close(write)
    assert done.returncode == 0
