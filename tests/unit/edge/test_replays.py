import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from sottovoce.core.httpdate import format_http_date
from sottovoce.edge import database, replays
from sottovoce.edge.replays import WINDOW, ForgottenError, ReplayError, Replays, RequestDateError

NOW = 1_700_000_000
OLD, NEW = b"\1\0\x20", b"\2\x64\x7a"


def accept(
    store: Replays, enc: bytes, *, date: int | bytes | None = NOW, now: float = NOW, key: bytes = OLD
) -> None:
    header = format_http_date(date) if isinstance(date, int) else date
    asyncio.run(store.accept(key, enc, header, now))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "replays.db"


@pytest.mark.parametrize("date", [NOW, None], ids=["dated", "undated"])
def test_once(path: Path, date: int | None) -> None:
    store = Replays(path, [OLD, NEW])
    accept(store, b"a" * 32, date=date)
    accept(store, b"b" * 32, date=date)
    accept(store, b"a" * 32, date=date, key=NEW)
    for _ in range(2):
        with pytest.raises(ReplayError):
            accept(store, b"a" * 32, date=date)
    store.close()


@pytest.mark.parametrize("date", [NOW, None], ids=["dated", "undated"])
def test_a_restart_and_another_process_do_not_forget(path: Path, date: int | None) -> None:
    one, two = Replays(path, [OLD]), Replays(path, [OLD])
    accept(one, b"a" * 32, date=date)
    with pytest.raises(ReplayError):
        accept(two, b"a" * 32, date=date)
    one.close()
    two.close()
    again = Replays(path, [OLD, NEW])
    with pytest.raises(ReplayError):
        accept(again, b"a" * 32, date=date)
    again.close()


def test_many_at_once_share_a_write_and_one_of_two_twins_wins(path: Path) -> None:
    store = Replays(path, [OLD])

    async def play() -> list[object]:
        encs = [number.to_bytes(32, "big") for number in range(50)] * 2
        date = format_http_date(NOW)
        return await asyncio.gather(
            *(store.accept(OLD, enc, date, NOW) for enc in encs), return_exceptions=True
        )

    outcomes = asyncio.run(play())
    assert outcomes[:50] == [None] * 50
    assert all(isinstance(outcome, ReplayError) for outcome in outcomes[50:])
    store.close()


def test_the_window(path: Path) -> None:
    store = Replays(path, [OLD])
    for number, date in enumerate((NOW - WINDOW, NOW, NOW + WINDOW)):
        accept(store, bytes([number]), date=date)
    for date in (NOW - WINDOW - 1, NOW + WINDOW + 1, 0):
        with pytest.raises(RequestDateError):
            accept(store, b"x", date=date)
    for malformed in (b"", b"yesterday", b"Sun, 06 Nov 1994 08:49:37"):
        with pytest.raises(RequestDateError):
            accept(store, b"x", date=malformed)
    store.close()


def test_what_is_forgotten_is_out_of_the_window_even_when_the_clock_is_set_back(path: Path) -> None:
    store = Replays(path, [OLD])
    accept(store, b"a")
    later = NOW + 2 * WINDOW
    accept(store, b"b", date=later, now=later)
    rows = sqlite3.connect(path)
    assert rows.execute("SELECT count(*) FROM seen").fetchone() == (1,)
    rows.close()
    with pytest.raises(RequestDateError):
        accept(store, b"a", now=later)
    with pytest.raises(ForgottenError):
        accept(store, b"a", now=NOW)
    store.close()


def test_a_clock_that_was_ahead_costs_only_the_minutes_that_were_forgotten(path: Path) -> None:
    store = Replays(path, [OLD])
    accept(store, b"before")
    for ahead in (NOW + 86400, NOW + 86400 + 2 * WINDOW):
        accept(store, ahead.to_bytes(8, "big"), date=ahead, now=ahead)
    store.close()
    store = Replays(path, [OLD])
    # The clock is right again: what it had forgotten by the wrong one cannot come back, by either time.
    with pytest.raises(ForgottenError):
        accept(store, b"before")
    with pytest.raises(ForgottenError):
        accept(store, (NOW + 86400).to_bytes(8, "big"), date=NOW + 86400, now=NOW + 86400)
    late = NOW + 86400 + 2 * WINDOW
    with pytest.raises(ReplayError):
        accept(store, late.to_bytes(8, "big"), date=late, now=late)
    for minutes in (-1, 1, 2, 10, 600):
        moment = NOW + 60 * minutes
        accept(store, b"new", date=moment, now=moment)
        with pytest.raises(ReplayError):
            accept(store, b"new", date=moment, now=moment)
    store.close()


def test_forgotten_minutes_take_a_bounded_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "_MINUTES", 10)
    store = Replays(path, [OLD])
    for number in range(40):
        moment = NOW + 60 * number
        accept(store, bytes([number]), date=moment, now=moment)
    rows = sqlite3.connect(path)
    assert rows.execute("SELECT count(*) FROM forgotten").fetchone() == (10,)
    rows.close()
    for number in range(25, 40):
        moment = NOW + 60 * number
        with pytest.raises((ReplayError, ForgottenError)):
            accept(store, bytes([number]), date=moment, now=moment)
    store.close()


def test_the_last_moment_of_the_window_is_remembered(path: Path) -> None:
    for start in range(NOW, NOW + 60, 7):
        store = Replays(path, [OLD])
        enc = os.urandom(32)
        accept(store, enc, date=start, now=start - WINDOW)
        accept(store, os.urandom(32), date=start + WINDOW, now=start + WINDOW)
        with pytest.raises(ReplayError):
            accept(store, enc, date=start, now=start + WINDOW)
        store.close()


def test_undated_requests_live_as_long_as_their_key_and_have_room(path: Path) -> None:
    store = Replays(path, [OLD, NEW], undated=2)
    accept(store, b"a", date=None)
    accept(store, b"a", date=None, key=NEW)
    with pytest.raises(RequestDateError):
        accept(store, b"c", date=None)
    accept(store, b"c")
    far = NOW + 10**6
    accept(store, b"d", date=far, now=far)
    store.close()
    store = Replays(path, [NEW], undated=2)
    with pytest.raises(ReplayError):
        accept(store, b"a", date=None, key=NEW)
    accept(store, b"e", date=None, key=NEW)
    with pytest.raises(RequestDateError):
        accept(store, b"f", date=None, key=NEW)
    store.close()


def test_a_store_that_takes_no_write_lets_nothing_pass(path: Path) -> None:
    store = Replays(path, [OLD])
    rows = sqlite3.connect(path)
    rows.execute("DROP TABLE seen")
    rows.close()
    with pytest.raises(database.StoreError):
        accept(store, b"a")

    async def play() -> list[object]:
        date = format_http_date(NOW)
        return await asyncio.gather(
            *(store.accept(OLD, bytes([n]), date, NOW) for n in range(3)), return_exceptions=True
        )

    assert all(isinstance(outcome, database.StoreError) for outcome in asyncio.run(play()))
    store.close()


def test_a_damaged_store_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(database.StoreCorruptError):
        Replays(path, [OLD])
