import asyncio
import contextlib
import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from sottovoce.core.httpdate import format_http_date
from sottovoce.edge import database, replays
from sottovoce.edge.replays import WINDOW, ForgottenError, ReplayError, Replays, RequestDateError

NOW = 1_700_000_000
OLD, NEW = b"\1\0\x20", b"\2\x64\x7a"
YEAR = 365 * 86400
STEP = 13 * 60
"""Longer than the time for which what is over is still kept."""


class Clocked:
    """A store, the true time, by which `steady` goes too, and by how much the gateway's clock is ahead."""

    def __init__(self, path: Path) -> None:
        self.path, self.true, self.ahead = path, NOW, 0
        self.restart()

    def restart(self) -> None:
        self.store = Replays(self.path, [OLD], steady=lambda: self.true)

    def accept(self, enc: bytes, *, date: int | None = None) -> None:
        """A request with the date that the gateway would have it have, unless `date` says another."""
        now = self.true + self.ahead
        accept(self.store, enc, date=now if date is None else date, now=now)

    def go_on(self, minutes: int) -> None:
        """Time passes, with a request a minute."""
        for _ in range(minutes):
            self.true += 60
            self.accept(os.urandom(32))

    def seen(self) -> int:
        rows = sqlite3.connect(self.path)
        count: int = rows.execute("SELECT count(*) FROM seen").fetchone()[0]
        rows.close()
        return count


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


def test_what_is_over_is_forgotten_and_the_file_does_not_grow(path: Path) -> None:
    here = Clocked(path)
    here.go_on(180)
    assert here.seen() <= 2 * STEP // 60 + WINDOW // 60 + 2
    here.true += 6 * 3600
    here.go_on(180)
    assert here.seen() <= 2 * STEP // 60 + WINDOW // 60 + 2


def test_what_is_forgotten_is_not_accepted_when_the_clock_is_set_back(path: Path) -> None:
    here = Clocked(path)
    here.accept(b"a")
    here.go_on(60)
    with pytest.raises(RequestDateError):
        here.accept(b"a", date=NOW)
    here.ahead = -3600
    for _ in range(2):
        with pytest.raises(ForgottenError):
            here.accept(b"a", date=NOW)
        with pytest.raises(ForgottenError):
            here.accept(b"another", date=NOW)
        here.restart()
    here.ahead = 0
    here.go_on(1)


@pytest.mark.parametrize("minutes", [1, 12, 13, 26, 60, 300])
def test_a_clock_that_was_ahead_costs_nobody_anything_once_it_is_right(path: Path, minutes: int) -> None:
    here = Clocked(path)
    here.go_on(30)
    here.accept(b"right", date=here.true + WINDOW)
    here.ahead = YEAR
    here.accept(b"ahead")
    then = here.true + YEAR
    here.go_on(minutes)
    here.restart()
    here.go_on(minutes)
    here.ahead = 0
    here.go_on(60)
    with pytest.raises((ReplayError, RequestDateError)):
        here.accept(b"right", date=NOW + 30 * 60 + WINDOW)
    # A year on: what came in those minutes is still known, or refused.
    here.true = then
    with pytest.raises((ReplayError, ForgottenError)):
        here.accept(b"ahead", date=then)


def test_no_clock_makes_a_request_acceptable_twice(path: Path) -> None:
    """It goes forwards and back by chance, through restarts."""
    chance = random.Random(7)  # noqa: S311 - the same in every run
    here = Clocked(path)
    taken: dict[bytes, int] = {}
    for _ in range(600):
        here.true += chance.choice((1, 60, STEP))
        if chance.random() < 0.1:
            here.ahead = chance.choice((0, 0, 3600, -3600, 600, -600))
        if chance.random() < 0.02:
            here.restart()
        now = here.true + here.ahead
        near = [enc for enc, date in taken.items() if abs(date - now) <= WINDOW]
        for enc in near:
            with pytest.raises((ReplayError, ForgottenError)):
                here.accept(enc, date=taken[enc])
        enc = os.urandom(32)
        with contextlib.suppress(ForgottenError):
            here.accept(enc)
            taken[enc] = now


def test_forgotten_minutes_take_a_bounded_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "_MINUTES", 10)
    here = Clocked(path)
    here.go_on(90)
    rows = sqlite3.connect(path)
    assert rows.execute("SELECT count(*) FROM forgotten").fetchone() == (10,)
    rows.close()


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


def test_undated_requests_that_could_not_be_counted_were_not_forgotten(path: Path) -> None:
    class Failing:
        """The connection, until it is asked how many are left."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> object:
            return getattr(self._connection, name)

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if "count(*)" in statement:
                raise sqlite3.OperationalError("disk I/O error")
            return self._connection.execute(statement, *values)

    store = Replays(path, [OLD])
    accept(store, b"a", date=None)
    whole = store._connection
    store._connection = Failing(whole)  # type: ignore[assignment]
    with pytest.raises(database.StoreError):
        store.use([NEW])
    store._connection = whole
    # The old key goes on in use, as the new ones were not taken.
    with pytest.raises(ReplayError):
        accept(store, b"a", date=None)
    store.close()
