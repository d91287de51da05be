"""What only the SQLite store has: its file. `test_spent` has what all stores share."""

import asyncio
import os
import resource
import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sottovoce.core.errors import ConfigError, SottovoceError
from sottovoce.edge.database import StoreCorruptError, StoreError, StoreFullError
from sottovoce.edge.spent_sqlite import SqliteSpent
from sottovoce.edge.spentstore import Refusal, TokenSpent
from store_kit import EPOCH, digest

TOKENS = 1_000_000


def opened(path: Path, *, tokens: int = TOKENS) -> SqliteSpent:
    return SqliteSpent(path, tokens=tokens, seconds=5)


def spend(store: SqliteSpent, *numbers: int) -> list[Refusal]:
    return store.write([(digest(number), EPOCH) for number in numbers])


def fill_up(store: SqliteSpent) -> None:
    """Leave no room: no free page in the file, and no leave to make it longer."""
    store._connection.execute("VACUUM")
    store._connection.execute("PRAGMA max_page_count = 1")


def test_a_process_that_is_killed_right_after_leaves_the_token_spent(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        spend(opened(tmp_path / "spent.db"), 0)
        os.kill(os.getpid(), 9)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == 9
    assert isinstance(spend(opened(tmp_path / "spent.db"), 0)[0], TokenSpent)


@pytest.mark.parametrize("error", [sqlite3.OperationalError("x"), MemoryError()])
def test_whatever_goes_wrong_nothing_stays_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    store = opened(tmp_path / "spent.db")
    insert = store._insert

    def fail(number: bytes, epoch: int) -> Refusal:
        if number == digest(2):
            raise error
        return insert(number, epoch)

    monkeypatch.setattr(store, "_insert", fail)
    with pytest.raises((StoreError, MemoryError)):
        spend(store, 0, 1, 2)
    monkeypatch.undo()
    assert spend(store, 0, 1, 2) == [None] * 3
    assert isinstance(spend(opened(tmp_path / "spent.db"), 0)[0], TokenSpent)


def test_a_full_disk_refuses_and_records_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path / "spent.db")
    fill_up(store)
    spent: list[int] = []

    def fill() -> None:
        for number in range(10_000):
            spend(store, number)
            spent.append(number)

    with pytest.raises(StoreFullError) as caught:
        fill()
    assert caught.value.code == "disk.full"
    store._connection.execute("PRAGMA max_page_count = 100000")
    assert {type(refusal) for refusal in spend(store, *spent)} == {TokenSpent}
    assert spend(store, len(spent)) == [None]


def test_a_full_file_can_be_emptied(tmp_path: Path) -> None:
    store = opened(tmp_path / "spent.db", tokens=1)
    accepted = fill(store, EPOCH)
    assert 0 < accepted < 100_000
    assert store._expire(EPOCH + 1) == accepted
    assert fill(store, EPOCH + 1) > accepted // 2


def fill(store: SqliteSpent, epoch: int) -> int:
    """Spend until the store is full; how many it took."""
    for count in range(0, 200_000, 5000):
        try:
            assert not any(store.write([(os.urandom(32), epoch) for _ in range(5000)]))
        except StoreFullError:
            return count
    raise AssertionError("it was never full")


def _spend_until_full(path: Path, accepted: int) -> int:
    # The kernel refuses to let any file grow, as a full disk does.
    store = opened(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))
    try:
        for number in range(10_000):
            spend(store, number)
            os.write(accepted, b"x")
    except StoreFullError:
        return 7
    return 1


def test_what_was_accepted_before_the_kernel_refused_stays_spent(tmp_path: Path) -> None:
    out, accepted = os.pipe()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = _spend_until_full(tmp_path / "spent.db", accepted)
        finally:
            os._exit(status)
    os.close(accepted)
    with os.fdopen(out, "rb") as pipe:
        count = len(pipe.read())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert count > 0
    assert {type(refusal) for refusal in spend(opened(tmp_path / "spent.db"), *range(count))} == {TokenSpent}


def test_a_group_that_meets_a_full_disk_is_not_recorded_in_part(tmp_path: Path) -> None:
    store = opened(tmp_path / "spent.db")
    fill_up(store)
    with pytest.raises(StoreFullError):
        spend(store, *range(10_000))
    store._connection.execute("PRAGMA max_page_count = 100000")
    assert spend(store, *range(100)) == [None] * 100


def test_a_store_that_another_process_holds_is_an_error_in_time(tmp_path: Path) -> None:
    store = SqliteSpent(tmp_path / "spent.db", tokens=TOKENS, seconds=0.001)
    holder = sqlite3.connect(tmp_path / "spent.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for numbers in ((0,), (0, 1)):
        with pytest.raises(StoreError) as caught:
            spend(store, *numbers)
        assert caught.value.code == "disk"
    with pytest.raises(StoreError):
        store._expire(EPOCH)
    holder.execute("ROLLBACK")
    holder.close()
    assert spend(store, 0) == [None]


def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "spent.db"
    path.write_bytes(b"no database, certainly" * 100)
    with pytest.raises(StoreCorruptError):
        opened(path)
    assert path.read_bytes() == b"no database, certainly" * 100


def test_a_closed_store_refuses(tmp_path: Path) -> None:
    store = opened(tmp_path / "spent.db")
    asyncio.run(store.close())
    for numbers in ((0,), (0, 1)):
        with pytest.raises(StoreError):
            spend(store, *numbers)


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        opened(tmp_path / "missing" / "spent.db")


def test_every_write_is_on_the_disk_before_it_counts(tmp_path: Path) -> None:
    path = tmp_path / "spent.db"
    store = opened(path)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 1 << 20), bits=st.integers(1, 255), cut=st.booleans())
def test_any_damage_is_a_typed_error_or_harmless(tmp_path: Path, at: int, bits: int, *, cut: bool) -> None:
    path, template = tmp_path / "damaged.db", tmp_path / "template.db"
    if not template.exists():
        store = opened(template)
        spend(store, *range(200))
        store.shut()
    for leftover in tmp_path.glob("damaged.db*"):
        leftover.unlink()
    whole = template.read_bytes()
    at %= len(whole)
    path.write_bytes(whole[:at] if cut else whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
    try:
        store = opened(path)
        spend(store, 1 << 250)
    except SottovoceError:
        return
    store.shut()
