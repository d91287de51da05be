import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.attest.binding import batch_root, report_data
from sottovoce.core.errors import ProtocolError, UsageError
from sottovoce.tee.attestation import Quote
from sottovoce.tee.batching import MAX_BATCH, Batcher
from sottovoce.tlog.merkle import inclusion_proof, inclusion_proofs, tree_head


def leaf(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def proves(quote: Quote, own: bytes, data: bytes) -> bool:
    b = quote.batch
    return report_data(batch_root(own, index=b.index, size=b.size, path=b.path)) == data


@given(st.integers(1, 70))
def test_all_proofs_at_once_are_those_made_one_by_one(size: int) -> None:
    leaves = [leaf(number) for number in range(size)]
    root, paths = inclusion_proofs(leaves)
    assert root == tree_head(leaves)
    assert [list(path) for path in paths] == [inclusion_proof(leaves, index) for index in range(size)]


def test_no_leaves_no_proofs() -> None:
    with pytest.raises(UsageError):
        inclusion_proofs([])


def test_a_leaf_alone_is_a_tree_of_one() -> None:
    batcher = Batcher[str]()
    batcher.add("one", leaf(1))
    assert batcher.take() == report_data(leaf(1))
    ((who, quote),) = batcher.settle(b"report")
    assert (who, quote.report, quote.batch.size, quote.batch.path) == ("one", b"report", 1, ())


def test_leaves_that_come_while_a_report_is_made_share_the_next() -> None:
    batcher = Batcher[int]()
    batcher.add(0, leaf(0))
    batcher.take()
    for number in range(1, 8):
        batcher.add(number, leaf(number))
    assert [who for who, _ in batcher.settle(b"first")] == [0]
    data = batcher.take()
    answers = batcher.settle(b"second")
    assert [who for who, _ in answers] == [1, 2, 3, 4, 5, 6, 7]
    assert all(proves(quote, leaf(who), data) for who, quote in answers)
    assert not batcher.busy
    assert batcher.waiting == 0


def test_a_tree_has_a_largest_size_and_the_rest_wait() -> None:
    batcher = Batcher[int](limit=3)
    for number in range(5):
        batcher.add(number, leaf(number))
    batcher.take()
    assert batcher.waiting == 2
    assert [who for who, _ in batcher.settle(b"")] == [0, 1, 2]
    batcher.take()
    assert [who for who, _ in batcher.settle(b"")] == [3, 4]


def test_the_largest_tree_fits_evidence() -> None:
    batcher = Batcher[int]()
    for number in range(MAX_BATCH + 1):
        batcher.add(number, leaf(number))
    data = batcher.take()
    assert batcher.waiting == 1
    answers = batcher.settle(b"report")
    assert len(answers) == MAX_BATCH
    who, quote = answers[-1]
    assert len(quote.batch.path) == 16
    assert proves(quote, leaf(who), data)
    assert len(quote.encode()) < 600
    with pytest.raises(UsageError):
        Batcher[int](limit=MAX_BATCH + 1)


def test_whoever_ends_is_forgotten() -> None:
    batcher = Batcher[str]()
    for number, who in enumerate(("stays", "ends in the tree")):
        batcher.add(who, leaf(number))
    data = batcher.take()
    for number, who in enumerate(("waits", "ends while it waits")):
        batcher.add(who, leaf(10 + number))
    batcher.drop("ends in the tree")
    batcher.drop("ends while it waits")
    batcher.drop("never came")
    ((who, quote),) = batcher.settle(b"report")
    assert who == "stays"
    assert quote.batch.size == 2  # the tree was made before
    assert proves(quote, leaf(0), data)
    batcher.take()
    ((who, quote),) = batcher.settle(b"report")
    assert (who, quote.batch.size) == ("waits", 1)


def test_a_failure_is_told_to_everybody_who_waits() -> None:
    batcher = Batcher[str]()
    batcher.add("in the tree", leaf(0))
    batcher.add("ended", leaf(1))
    batcher.take()
    batcher.add("waits", leaf(2))
    batcher.drop("ended")
    assert batcher.fail() == ["in the tree", "waits"]
    assert batcher.fail() == []
    batcher.add("in the tree", leaf(0))
    batcher.take()
    assert len(batcher.settle(b"report")) == 1


def test_nobody_fills_a_tree_alone() -> None:
    batcher = Batcher[str]()
    batcher.add("one", leaf(0))
    with pytest.raises(ProtocolError):
        batcher.add("one", leaf(1))
    batcher.take()
    with pytest.raises(ProtocolError):
        batcher.add("one", leaf(1))
    batcher.settle(b"")
    batcher.add("one", leaf(1))


def test_mistakes_of_ours() -> None:
    batcher = Batcher[str]()
    with pytest.raises(UsageError):
        batcher.take()
    with pytest.raises(UsageError):
        batcher.settle(b"report")
    with pytest.raises(UsageError):
        batcher.add("one", b"short")
    batcher.add("one", leaf(0))
    batcher.take()
    batcher.add("two", leaf(1))
    with pytest.raises(UsageError):
        batcher.take()  # one report at a time


STEPS = st.lists(st.one_of(st.just("arrive"), st.just("done"), st.just("fail"), st.just("end")), max_size=120)


@given(STEPS, st.integers(1, 9))
def test_every_leaf_is_answered_once_with_a_proof_for_its_report(steps: Sequence[str], limit: int) -> None:
    batcher = Batcher[int](limit=limit)
    arrived, ended, failed, data = 0, set[int](), set[int](), b""
    answered: dict[int, int] = {}
    reports = 0

    def done() -> None:
        for who, quote in batcher.settle(data):
            assert proves(quote, leaf(who), quote.report)
            assert quote.batch.size <= limit
            answered[who] = answered.get(who, 0) + 1

    for step in [*steps, *["done"] * (len(steps) + 1)]:
        if step == "arrive":
            batcher.add(arrived, leaf(arrived))
            arrived += 1
        elif step == "end" and arrived:
            batcher.drop(arrived - 1)
            ended |= {arrived - 1} - set(answered) - failed
        elif step == "fail":
            failed |= set(batcher.fail())
        elif step == "done" and batcher.busy:
            done()
        if not batcher.busy and batcher.waiting:
            data = batcher.take()
            reports += 1
    assert set(answered.values()) <= {1}
    assert set(answered) == set(range(arrived)) - ended - failed
    assert reports <= arrived
