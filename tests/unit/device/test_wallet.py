import os
import random
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import token_kit
from sottovoce.core.errors import ConfigError, DecodeError, SottovoceError, UsageError
from sottovoce.core.genericbatch import GenericBatchRequest, GenericBatchResponse
from sottovoce.core.tokens import EPOCH_SECONDS, Token, TokenSignatureError, verify_token
from sottovoce.device.wallet import (
    PendingBatch,
    Schedule,
    Stock,
    Wallet,
    WalletCorruptError,
    WalletEmpty,
    WalletError,
    WalletFullError,
)
from wallet_kit import new, sent_by_two_processes, tokens

TODAY = 20000
NOON = TODAY * EPOCH_SECONDS + EPOCH_SECONDS // 2
MIDNIGHT = (TODAY + 1) * EPOCH_SECONDS


def begin(wallet: Wallet, now: int = NOON) -> PendingBatch:
    keys = {epoch: token_kit.key(epoch - TODAY) for epoch in (TODAY - 1, TODAY, TODAY + 1, TODAY + 2)}
    return wallet.begin_batch(keys, token_kit.CHALLENGE, now)


def answers(batch: PendingBatch) -> list[bytes]:
    """What an honest issuer answers, whichever key each request names."""
    return [token_kit.answer_all(request, -1, 0, 1, 2) for request in batch.requests]


def changed(answer: bytes, at: int, to: tuple[int, bytes] | None) -> bytes:
    """The answer with one token's part put in another's place."""
    responses = list(GenericBatchResponse.decode(answer).responses)
    responses[at] = to
    return GenericBatchResponse(responses=tuple(responses)).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wallet.db"


def test_a_refill_from_requests_to_tokens(path: Path) -> None:
    wallet = new(path)
    batch = begin(wallet)
    assert [len(request) for request in batch.requests] == [2 + 4 * 259] * 2
    assert wallet.finish_batch(batch, answers(batch), NOON) == 8
    assert wallet.stock(NOON) == Stock(ready=4, waiting=4)
    today = wallet.take(NOON)
    verify_token(today, token_kit.key(0), token_kit.CHALLENGE)
    tomorrow = wallet.take(MIDNIGHT)
    verify_token(tomorrow, token_kit.key(1), token_kit.CHALLENGE)


def test_a_batch_has_its_size_whatever_is_left(path: Path) -> None:
    wallet = new(path)
    wallet.add(tokens(7), TODAY, NOON)
    requests = begin(wallet).requests
    assert [len(GenericBatchRequest.decode(request).requests) for request in requests] == [4, 4]


def test_one_bad_signature_and_nothing_is_kept(path: Path) -> None:
    wallet = new(path)
    for bad in range(8):
        batch = begin(wallet)
        responses = answers(batch)
        responses[bad // 4] = changed(responses[bad // 4], bad % 4, (2, bytes(256)))
        with pytest.raises(TokenSignatureError):
            wallet.finish_batch(batch, responses, NOON)
        assert wallet.count(NOON) == 0


def test_answers_in_another_order_are_refused(path: Path) -> None:
    wallet = new(path)
    batch = begin(wallet)
    first, second = answers(batch)
    with pytest.raises(TokenSignatureError):
        wallet.finish_batch(batch, [second, first], NOON)
    assert wallet.count(NOON) == 0


@pytest.mark.parametrize("part", [None, (5, bytes(96))])
def test_an_answer_to_a_part_of_a_batch_is_refused_as_it_could_mark_a_device(
    path: Path, part: tuple[int, bytes] | None
) -> None:
    wallet = new(path)
    batch = begin(wallet)
    first, second = answers(batch)
    with pytest.raises(DecodeError, match="every token request"):
        wallet.finish_batch(batch, [first, changed(second, 1, part)], NOON)
    assert wallet.count(NOON) == 0


@pytest.mark.parametrize("change", [lambda r: r[:-1], lambda r: [*r, r[0]], lambda _: [], lambda r: [*r[:-1], r[-1][:-1]]])  # fmt: skip
def test_another_number_of_answers(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    wallet = new(path)
    batch = begin(wallet)
    with pytest.raises(DecodeError):
        wallet.finish_batch(batch, change(answers(batch)), NOON)
    assert wallet.count(NOON) == 0


def test_a_batch_is_finished_once(path: Path) -> None:
    wallet = new(path)
    batch = begin(wallet)
    wallet.finish_batch(batch, answers(batch), NOON)
    with pytest.raises(UsageError, match="once"):
        wallet.finish_batch(batch, answers(batch), NOON)
    assert wallet.count(NOON) == 8


def test_no_key_for_the_day(path: Path) -> None:
    wallet = new(path)
    with pytest.raises(UsageError, match="key"):
        wallet.begin_batch({TODAY - 1: token_kit.key(-1)}, token_kit.CHALLENGE, NOON)


def test_each_token_is_taken_once(path: Path) -> None:
    wallet = new(path)
    kept = tokens(10)
    wallet.add(kept, TODAY, NOON)
    taken = [wallet.take(NOON) for _ in kept]
    assert {t.nonce for t in taken} == {t.nonce for t in kept}
    with pytest.raises(WalletEmpty) as caught:
        wallet.take(NOON)
    assert caught.value.code == "wallet.empty"
    assert caught.value.ready_at is None
    assert "refill" in caught.value.hint


def test_the_order_of_use_is_not_the_order_of_issuance(path: Path) -> None:
    wallet = new(path)
    kept = tokens(30)
    wallet.add(kept, TODAY, NOON)
    order = [[t.nonce for t in kept].index(wallet.take(NOON).nonce) for _ in kept]
    assert sorted(order) == list(range(30))
    assert order not in (list(range(30)), list(reversed(range(30))))


def test_a_token_is_gone_from_the_disk_before_it_is_returned(path: Path) -> None:
    wallet = new(path)
    wallet.add(tokens(3), TODAY, NOON)
    token = wallet.take(NOON)
    files = list(path.parent.iterdir())
    content = b"".join(file.read_bytes() for file in files)
    assert token.authenticator[:16] not in content
    assert token.nonce not in content
    left = wallet.take(NOON)
    assert left.nonce in content, "the search works"


def test_a_process_that_is_killed_after_taking_does_not_give_the_token_back(path: Path) -> None:
    new(path).add(tokens(1), TODAY, NOON)
    child = os.fork()
    if child == 0:
        new(path).take(NOON)
        os.kill(os.getpid(), 9)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == 9
    with pytest.raises(WalletEmpty):
        new(path).take(NOON)


def test_two_processes_never_take_the_same_token(path: Path) -> None:
    new(path).add(tokens(40), TODAY, NOON)

    def act(wallet: Wallet, send: Callable[[Token], None]) -> None:
        for _ in range(20):
            send(wallet.take(NOON))

    assert len(set(sent_by_two_processes(path, act))) == 40


def test_a_token_rests_for_a_random_time_before_its_first_use(path: Path) -> None:
    wallet = new(path, Schedule(age=(600, 7200)))
    wallet.add(tokens(50), TODAY, NOON)
    with pytest.raises(WalletEmpty) as caught:
        wallet.take(NOON + 599)
    ready_at = caught.value.ready_at
    assert ready_at is not None
    assert NOON + 600 <= ready_at <= NOON + 7200
    assert f"{ready_at - NOON - 599} s" in caught.value.hint
    with pytest.raises(WalletEmpty):
        wallet.take(ready_at - 1)
    wallet.take(ready_at)
    ready = [wallet.stock(NOON + second).ready for second in (600, 2000, 4000, 6000, 7200)]
    assert ready == sorted(ready)
    assert ready[-1] == 49
    assert len(set(ready)) > 3, "the times are spread"


def test_tokens_of_a_day_that_is_over_are_dropped(path: Path) -> None:
    wallet = new(path)
    wallet.add(tokens(3), TODAY, NOON)
    assert wallet.count(MIDNIGHT - 1) == 3
    assert wallet.count(MIDNIGHT) == 0
    with pytest.raises(WalletEmpty):
        wallet.take(MIDNIGHT)
    assert sqlite3.connect(path).execute("SELECT count(*) FROM tokens").fetchone() == (0,)


def test_tomorrows_tokens_wait_for_tomorrow(path: Path) -> None:
    wallet = new(path)
    wallet.add(tokens(3), TODAY + 1, NOON)
    with pytest.raises(WalletEmpty) as caught:
        wallet.take(MIDNIGHT - 1)
    assert caught.value.ready_at == MIDNIGHT
    wallet.take(MIDNIGHT)


def test_a_token_that_would_be_ready_after_its_day_is_no_promise(path: Path) -> None:
    wallet = new(path, Schedule(age=(7200, 7200)))
    wallet.add(tokens(1), TODAY, MIDNIGHT - 10)
    with pytest.raises(WalletEmpty) as caught:
        wallet.take(MIDNIGHT - 5)
    assert caught.value.ready_at is None


def test_the_refill_schedule_does_not_see_spending(path: Path, tmp_path: Path) -> None:
    """Two devices, one that spends all and one that spends nothing, refill at the same moments."""
    moments = []
    for name, spends in (("a", True), ("b", False)):
        wallet = new(tmp_path / name, Schedule(batch=2, age=(0, 0), night=(0, 0)), seed=7)
        times = []
        now = NOON
        for _ in range(20):
            now = wallet.next_refill(now)
            assert wallet.due(now)
            times.append(now)
            keys = {now // EPOCH_SECONDS + ahead: token_kit.key(ahead) for ahead in (0, 1)}
            batch = wallet.begin_batch(keys, token_kit.CHALLENGE, now)
            wallet.finish_batch(batch, answers(batch), now)
            assert not wallet.due(now)
            while spends and wallet.stock(now).ready:
                state = wallet._draw.getstate()
                wallet.take(now)
                wallet._draw.setstate(state)
        moments.append(times)
    assert moments[0] == moments[1]
    gaps = [after - before for before, after in zip(moments[0], moments[0][1:], strict=False)]
    assert all(3 * 3600 <= gap <= 9 * 3600 for gap in gaps)
    assert len(set(gaps)) > 15, "the gaps are random"


def test_a_refill_that_fails_is_tried_again_soon_and_not_at_once(path: Path) -> None:
    wallet = new(path)
    assert wallet.due(NOON)
    begin(wallet)
    assert not wallet.due(NOON + 299)
    assert wallet.due(NOON + 900)
    assert new(path).next_refill(NOON) == wallet.next_refill(NOON)


def test_a_clock_that_was_set_back_does_not_stop_refills(path: Path) -> None:
    wallet = new(path)
    begin(wallet, NOON)
    assert wallet.due(NOON - 10 * EPOCH_SECONDS)
    assert wallet.next_refill(NOON - 10 * EPOCH_SECONDS) == NOON - 10 * EPOCH_SECONDS


def test_a_refill_that_was_missed_is_planned_anew_once_and_for_all_processes(path: Path) -> None:
    wallet = new(path)
    batch = begin(wallet)
    wallet.finish_batch(batch, answers(batch), NOON)
    back = wallet.next_refill(NOON) + 4000
    planned = wallet.next_refill(back)
    assert back <= planned <= MIDNIGHT + EPOCH_SECONDS
    assert planned > back, "this seed draws a later time"
    assert not wallet.due(back)
    assert new(path, seed=2).next_refill(back) == planned
    assert new(path, seed=2).due(planned)
    assert wallet.due(planned + 20_000), "missed twice"


def test_a_device_that_was_away_for_days_refills_at_once(path: Path) -> None:
    wallet = new(path)
    batch = begin(wallet)
    wallet.finish_batch(batch, answers(batch), NOON)
    assert wallet.due(NOON + 3 * EPOCH_SECONDS)


def test_the_night_is_that_of_the_devices_time_zone(path: Path, tmp_path: Path) -> None:
    zones = []

    def zone(now: int) -> int:
        zones.append(now)
        return 11 * 3600

    # At noon it is 23 h there, so the next refill is after the night: 11 h there is midnight here.
    wallet = Wallet(path, schedule=Schedule(batch=1), draw=random.Random(1), zone=zone)  # noqa: S311
    batch = begin(wallet)
    wallet.finish_batch(batch, answers(batch), NOON)
    assert zones == [NOON]
    assert NOON + 12 * 3600 <= wallet.next_refill(NOON) <= NOON + 18 * 3600


def test_a_wallet_of_the_first_days_is_taken_over(path: Path) -> None:
    wallet = new(path)
    wallet.add(tokens(3), TODAY, NOON)
    wallet.close()
    connection = sqlite3.connect(path)
    for column in ("covered", "firm"):
        connection.execute(f"ALTER TABLE state DROP COLUMN {column}")
    connection.close()
    for _ in range(2):
        wallet = new(path)
        assert wallet.count(NOON) == 3
        assert wallet.due(NOON)
        wallet.close()


@pytest.mark.parametrize(
    "change",
    [{"batch": 0}, {"batch": 257}, {"age": (5, 4)}, {"interval": (-1, 4)}, {"retry": (2, 1)}],
)
def test_schedules_that_make_no_sense(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Schedule(**change)  # type: ignore[arg-type]


def test_the_file_is_its_owners(path: Path) -> None:
    umask = os.umask(0)
    try:
        new(path).add(tokens(1), TODAY, NOON)
    finally:
        os.umask(umask)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others") as caught:
        new(path)
    assert "chmod" in caught.value.hint


def test_a_file_that_is_no_wallet_is_refused_and_left_alone(path: Path) -> None:
    other = path.with_name("other.db")
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    for content in (b"", b"text", b"SQLite format 3\x00" + bytes(100), other.read_bytes()):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(WalletCorruptError) as caught:
            new(path)
        assert "move" in caught.value.hint
        assert path.read_bytes() == content


def test_a_place_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        new(tmp_path / "missing" / "wallet.db")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError):
        new(tmp_path / "file" / "wallet.db")


def test_a_damaged_row_is_reported_and_nothing_is_lost(path: Path) -> None:
    wallet = new(path)
    wallet.add(tokens(3), TODAY, NOON)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE tokens SET ready = ready - 1")
    connection.commit()
    with pytest.raises(WalletCorruptError):
        wallet.take(NOON)
    assert connection.execute("SELECT count(*) FROM tokens").fetchone() == (3,)


def test_an_interrupted_start_leaves_no_half_made_wallet(path: Path) -> None:
    path.with_name(f"{path.name}.{os.getpid()}.new").write_bytes(b"half")
    new(path).add(tokens(1), TODAY, NOON)
    assert [file.name for file in path.parent.iterdir() if "new" in file.name] == []


def test_a_full_disk_takes_nothing_and_gives_nothing(path: Path) -> None:
    wallet = new(path)
    wallet.add(tokens(2), TODAY, NOON)
    wallet._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(WalletFullError):
        wallet.add(tokens(100), TODAY, NOON)
    assert wallet.count(NOON) == 2


def test_a_wallet_that_cannot_be_written_gives_no_token(path: Path) -> None:
    wallet = new(path)
    wallet.add(tokens(2), TODAY, NOON)
    wallet._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(WalletError) as caught:
        wallet.take(NOON)
    assert caught.value.code == "disk.wallet"
    wallet._connection.execute("PRAGMA query_only = OFF")
    assert wallet.count(NOON) == 2


def test_a_wallet_shows_nothing(path: Path) -> None:
    wallet = new(path)
    assert repr(wallet) == "Wallet(...)"
    assert repr(begin(wallet)) == "PendingBatch(...)"
    wallet.close()
    with pytest.raises(WalletError):
        wallet.take(NOON)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 1 << 20), bits=st.integers(1, 255), cut=st.booleans())
def test_any_damage_is_a_typed_error_or_harmless(tmp_path: Path, at: int, bits: int, *, cut: bool) -> None:
    path = tmp_path / "damaged.db"
    template = tmp_path / "template.db"
    if not template.exists():
        wallet = new(template)
        wallet.add(tokens(20), TODAY, NOON)
        wallet.close()
    whole = template.read_bytes()
    at %= len(whole)
    content = whole[:at] if cut else whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :]
    path.write_bytes(content)
    path.chmod(0o600)
    try:
        wallet = new(path)
        taken = wallet.take(NOON)
    except WalletEmpty:
        pytest.fail("tokens were lost without a word")
    except SottovoceError:
        return
    assert taken.encode() in whole
    wallet.close()
