from pathlib import Path

import pytest
from click.testing import CliRunner

from sottovoce.cli.main import cli
from sottovoce.core.errors import ConfigError, SottovoceError, UsageError
from sottovoce.edge.database import StoreDownError
from sottovoce.simulator import servers


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["spent", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.mark.parametrize("kind", ["redis", "valkey", "postgresql"])
def test_a_store_is_made_and_checked(kind: str) -> None:
    with servers.running(kind) as server:
        if server is None:
            pytest.skip(f"{kind} is not installed here")
        url = server.url("seconds=60")
        with pytest.raises(SottovoceError) as caught:
            run("check", url)
        assert caught.value.code == "unavailable.store.unknown"
        (made,) = (word for word in run("create", url).split('"') if "://" in word)
        assert made.startswith(url + "&store=")
        identity = made.rpartition("=")[2]
        for known in (url, made):
            assert run("check", known) == f"It may be used. store={identity}, 0 tokens, epochs from 0 on.\n"
        with pytest.raises(UsageError, match="already"):
            run("create", url)
        with pytest.raises(SottovoceError) as caught:
            run("check", f"{url}&store={'0' * 32}")
        assert caught.value.code == "unavailable.store.unknown"


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(StoreDownError):
        run("check", "redis://127.0.0.1:1/0")


def test_sqlite_needs_no_making(tmp_path: Path) -> None:
    for command in ("create", "check"):
        with pytest.raises(UsageError, match="needs no making"):
            run(command, str(tmp_path / "spent.sqlite"))
        with pytest.raises(ConfigError):
            run(command, "redis://store.example/0")
