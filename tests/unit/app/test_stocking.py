"""Tokens and the directory are fetched while private processing is on, and only then."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app_kit import Scripted, prepare
from sottovoce.app import stocking
from sottovoce.app.desk import Desk
from sottovoce.core.errors import UnavailableError
from sottovoce.device.settings import SettingsStore
from sottovoce.device.wallet import Stock

if TYPE_CHECKING:
    from collections.abc import Callable


class Fetching(Scripted):
    """A client that writes down what it fetches."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.fetched: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.failure: Exception | None = None

    async def refill_wallet(self, *, only_if_due: bool) -> int:
        assert only_if_due
        self.fetched.append("tokens")
        self.meanwhile()
        if self.failure is not None:
            raise self.failure
        return 0

    async def refresh_directory(self) -> bool:
        self.fetched.append("directory")
        return False

    def stock(self) -> tuple[Stock, int]:
        return Stock(ready=7, waiting=9), 0


def rounds(home: Path, client: Fetching, monkeypatch: pytest.MonkeyPatch, count: int = 2) -> Desk:
    """The desk after so many looks at what is due."""
    desk, pauses = Desk(home, client, "/"), 0

    async def sleep(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == count:
            raise asyncio.CancelledError

    monkeypatch.setattr("sottovoce.app.stocking.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stocking.keep_stocked(desk))
    return desk


def test_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, enabled=True)
    client = Fetching(tmp_path)
    desk = rounds(tmp_path, client, monkeypatch)
    assert client.fetched == ["tokens", "directory"] * 2
    assert desk.tokens.startswith("7 can be used now, 9 rest")


def test_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, enabled=False)
    client = Fetching(tmp_path)
    assert "None are fetched" in rounds(tmp_path, client, monkeypatch).tokens
    (tmp_path / "settings.json").write_bytes(b"{")
    rounds(tmp_path, client, monkeypatch)
    assert client.fetched == []


def test_turned_off_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, enabled=True)
    client = Fetching(tmp_path)
    client.meanwhile = SettingsStore(tmp_path).disable
    rounds(tmp_path, client, monkeypatch)
    assert client.fetched == ["tokens"]


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (UnavailableError("the issuer gave no answer", party="issuer"), "The issuer gave no answer."),
        (RuntimeError("words of somebody"), "a fault of the app"),
    ],
)
def test_a_failure_is_told_and_does_not_end_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    told: str,
) -> None:
    prepare(tmp_path, enabled=True)
    client = Fetching(tmp_path)
    client.failure = failure
    desk = rounds(tmp_path, client, monkeypatch, count=3)
    assert client.fetched == ["tokens"] * 3
    assert told in desk.tokens
    assert "words of somebody" not in desk.tokens + caplog.text
