import os
import resource
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sottovoce.core.errors import ConfigError, SottovoceError, UsageError
from sottovoce.edge.database import StoreCorruptError, StoreError, StoreFullError
from sottovoce.edge.spent import SpentTokens, TokenExpired, TokenSpent

EPOCH = 20000


def fill_up(store: SpentTokens) -> None:
    """Leave no room: no free page in the file, and no leave to make it longer."""
    store._connection.execute("VACUUM")
    store._connection.execute("PRAGMA max_page_count = 1")


def test_a_token_is_spent_once(tmp_path: Path) -> None:
    store = SpentTokens(tmp_path / "spent.db")
    store.spend(bytes(32), EPOCH)
    with pytest.raises(TokenSpent) as caught:
        store.spend(bytes(32), EPOCH)
    assert caught.value.code == "token.spent"
    store.spend(b"\x01" * 32, EPOCH)
    store.spend(bytes(32), EPOCH + 1)


def test_and_once_across_restarts_and_gateways(tmp_path: Path) -> None:
    first = SpentTokens(tmp_path / "spent.db")
    second = SpentTokens(tmp_path / "spent.db")
    first.spend(bytes(32), EPOCH)
    with pytest.raises(TokenSpent):
        second.spend(bytes(32), EPOCH)
    first.close()
    second.close()
    with pytest.raises(TokenSpent):
        SpentTokens(tmp_path / "spent.db").spend(bytes(32), EPOCH)


def test_a_process_that_is_killed_right_after_leaves_the_token_spent(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        SpentTokens(tmp_path / "spent.db").spend(bytes(32), EPOCH)
        os.kill(os.getpid(), 9)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == 9
    with pytest.raises(TokenSpent):
        SpentTokens(tmp_path / "spent.db").spend(bytes(32), EPOCH)


def _spend_twenty(path: Path, start: int) -> int:
    os.read(start, 1)
    store, won = SpentTokens(path), 0
    for number in range(20):
        try:
            store.spend(number.to_bytes(32, "big"), EPOCH)
        except TokenSpent:
            continue
        won += 1
    return won


def test_processes_that_start_and_spend_at_once(tmp_path: Path) -> None:
    start, go = os.pipe()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            won = 99  # what a crash looks like
            try:
                won = _spend_twenty(tmp_path / "spent.db", start)
            finally:
                os._exit(won)
        children.append(child)
    os.write(go, bytes(4))
    assert sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children) == 20
    os.close(start)
    os.close(go)


def test_threads_that_spend_at_once(tmp_path: Path) -> None:
    store = SpentTokens(tmp_path / "spent.db")
    won: list[int] = []

    def spend() -> None:
        for number in range(20):
            try:
                store.spend(number.to_bytes(32, "big"), EPOCH)
            except TokenSpent:
                continue
            won.append(number)

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(20))


def test_many_with_one_write(tmp_path: Path) -> None:
    store = SpentTokens(tmp_path / "spent.db")
    store.expire(EPOCH)
    a, b = bytes(32), b"\x01" * 32
    refusals = store.spend_all([(a, EPOCH), (b, EPOCH), (a, EPOCH), (a, EPOCH - 1)])
    assert [type(refusal) for refusal in refusals] == [type(None), type(None), TokenSpent, TokenExpired]
    with pytest.raises(TokenSpent):
        SpentTokens(tmp_path / "spent.db").spend(b, EPOCH)
    assert store.spend_all([]) == []


def test_a_forgotten_epoch_stays_refused_whatever_another_clock_says(tmp_path: Path) -> None:
    store = SpentTokens(tmp_path / "spent.db")
    other = SpentTokens(tmp_path / "spent.db")
    for epoch in (EPOCH - 1, EPOCH):
        store.spend(bytes(32), epoch)
    assert store.expire(EPOCH) == 1
    with pytest.raises(TokenExpired) as caught:
        other.spend(bytes(32), EPOCH - 1)
    assert caught.value.code == "token.expired"
    with pytest.raises(TokenExpired):
        other.spend(b"\x01" * 32, EPOCH - 1)
    assert other.expire(EPOCH - 5) == 0
    with pytest.raises(TokenExpired):
        store.spend(bytes(32), EPOCH - 1)
    with pytest.raises(TokenSpent):
        store.spend(bytes(32), EPOCH)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_digest_of_another_length_is_our_own_fault(tmp_path: Path, length: int) -> None:
    store = SpentTokens(tmp_path / "spent.db")
    with pytest.raises(UsageError):
        store.spend(bytes(length), EPOCH)


@pytest.mark.parametrize("epoch", [-1, 1 << 32, 1 << 64])
def test_an_epoch_out_of_range_is_our_own_fault(tmp_path: Path, epoch: int) -> None:
    store = SpentTokens(tmp_path / "spent.db")
    with pytest.raises(UsageError):
        store.spend(bytes(32), epoch)
    with pytest.raises(UsageError):
        store.spend_all([(bytes(32), epoch)])


def test_threads_share_a_write_and_each_learns_its_own_outcome(tmp_path: Path) -> None:
    store = SpentTokens(tmp_path / "spent.db")
    store.spend(bytes(32), EPOCH)
    outcomes: list[str] = []

    def spend(number: int) -> None:
        try:
            store.spend(number.to_bytes(32, "big"), EPOCH)
        except TokenSpent:
            outcomes.append(f"refused {number}")
        else:
            outcomes.append(f"spent {number}")

    threads = [threading.Thread(target=spend, args=(number,)) for number in (0, 1, 2, 2)]
    writes: list[str] = []
    store._connection.set_trace_callback(writes.append)
    with store._lock:  # as while another thread waits for the disk
        for thread in threads:
            thread.start()
        while len(store._waiting) < 4:
            pass
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused 0", "refused 2", "spent 1", "spent 2"]
    assert writes.count("COMMIT") == 1


@pytest.mark.parametrize("error", [sqlite3.OperationalError("x"), MemoryError()])
def test_whatever_goes_wrong_nobody_in_the_group_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    store = SpentTokens(tmp_path / "spent.db")
    outcomes: list[type[BaseException] | None] = []

    def fail(*_: object) -> None:
        raise error

    def spend(number: int) -> None:
        try:
            store.spend(number.to_bytes(32, "big"), EPOCH)
        except (StoreError, MemoryError) as caught:
            outcomes.append(type(caught))
        else:
            outcomes.append(None)

    monkeypatch.setattr(store, "_insert", fail)
    threads = [threading.Thread(target=spend, args=(number,)) for number in range(3)]
    with store._lock:
        for thread in threads:
            thread.start()
        while len(store._waiting) < 3:
            pass
    for thread in threads:
        thread.join()
    assert len(outcomes) == 3
    assert None not in outcomes
    monkeypatch.undo()
    store.spend(bytes(32), EPOCH)
    with pytest.raises(TokenSpent):
        SpentTokens(tmp_path / "spent.db").spend(bytes(32), EPOCH)


def test_a_full_disk_refuses_and_records_nothing(tmp_path: Path) -> None:
    store = SpentTokens(tmp_path / "spent.db")
    fill_up(store)
    spent: list[int] = []

    def fill() -> None:
        for number in range(10_000):
            store.spend(number.to_bytes(32, "big"), EPOCH)
            spent.append(number)

    with pytest.raises(StoreFullError) as caught:
        fill()
    assert caught.value.code == "disk.full"
    store._connection.execute("PRAGMA max_page_count = 100000")
    refusals = store.spend_all([(number.to_bytes(32, "big"), EPOCH) for number in spent])
    assert {type(refusal) for refusal in refusals} == {TokenSpent}
    store.spend(len(spent).to_bytes(32, "big"), EPOCH)


def _spend_until_full(path: Path, accepted: int) -> int:
    # The kernel refuses to let any file grow, as a full disk does.
    store = SpentTokens(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))
    try:
        for number in range(10_000):
            store.spend(number.to_bytes(32, "big"), EPOCH)
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
    store = SpentTokens(tmp_path / "spent.db")
    refusals = store.spend_all([(number.to_bytes(32, "big"), EPOCH) for number in range(count)])
    assert count > 0
    assert {type(refusal) for refusal in refusals} == {TokenSpent}


def test_a_group_that_meets_a_full_disk_is_not_recorded_in_part(tmp_path: Path) -> None:
    store = SpentTokens(tmp_path / "spent.db")
    fill_up(store)
    group = [(number.to_bytes(32, "big"), EPOCH) for number in range(10_000)]
    with pytest.raises(StoreFullError):
        store.spend_all(group)
    store._connection.execute("PRAGMA max_page_count = 100000")
    assert store.spend_all(group[:100]) == [None] * 100


def test_a_store_that_another_process_holds_is_an_error_in_time(tmp_path: Path) -> None:
    store = SpentTokens(tmp_path / "spent.db")
    store._connection.execute("PRAGMA busy_timeout = 1")
    holder = sqlite3.connect(tmp_path / "spent.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for attempt in (store.spend, lambda digest, epoch: store.spend_all([(digest, epoch)])):
        with pytest.raises(StoreError) as caught:
            attempt(bytes(32), EPOCH)
        assert caught.value.code == "disk"
    with pytest.raises(StoreError):
        store.expire(EPOCH)
    holder.execute("ROLLBACK")
    holder.close()
    store.spend(bytes(32), EPOCH)


def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "spent.db"
    path.write_bytes(b"no database, certainly" * 100)
    with pytest.raises(StoreCorruptError):
        SpentTokens(path)
    assert path.read_bytes() == b"no database, certainly" * 100


def test_a_closed_store_refuses(tmp_path: Path) -> None:
    store = SpentTokens(tmp_path / "spent.db")
    store.close()
    with pytest.raises(StoreError):
        store.spend(bytes(32), EPOCH)
    with pytest.raises(StoreError):
        store.spend_all([(bytes(32), EPOCH)])


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        SpentTokens(tmp_path / "missing" / "spent.db")


def test_every_write_is_on_the_disk_before_it_counts(tmp_path: Path) -> None:
    path = tmp_path / "spent.db"
    store = SpentTokens(path)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 1 << 20), bits=st.integers(1, 255), cut=st.booleans())
def test_any_damage_is_a_typed_error_or_harmless(tmp_path: Path, at: int, bits: int, *, cut: bool) -> None:
    path, template = tmp_path / "damaged.db", tmp_path / "template.db"
    if not template.exists():
        store = SpentTokens(template)
        store.spend_all([(number.to_bytes(32, "big"), EPOCH) for number in range(200)])
        store.close()
    for leftover in tmp_path.glob("damaged.db*"):
        leftover.unlink()
    whole = template.read_bytes()
    at %= len(whole)
    path.write_bytes(whole[:at] if cut else whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
    try:
        store = SpentTokens(path)
        store.spend(b"\xff" * 32, EPOCH)
    except SottovoceError:
        return
    store.close()
