import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import DecodeError, PeerError
from sottovoce.tlog import merkle
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.history import MAX_HEADS, ForkError, History, NotListedError, require_one_log
from sottovoce.tlog.policy import OriginError

ORIGIN = "log.example/test"
LEAVES = [merkle.leaf_hash(b"entry %d" % number) for number in range(70)]


def head(size: int, *, origin: str = ORIGIN, leaves: list[bytes] | None = None) -> Checkpoint:
    root = merkle.tree_head((leaves or LEAVES)[:size])
    return Checkpoint(origin=origin, size=size, root=root)


@pytest.mark.parametrize("size", [2, 3, 8, 13, 70])
def test_every_earlier_head_is_proved(size: int) -> None:
    history = History.parse(History.of(ORIGIN, LEAVES[:size], range(size)).encode())
    for old in sorted(history.paths):
        history.require(head(old), head(size))
        history.require(head(size), head(old))
    assert len(history.paths) == min(size - 1, MAX_HEADS)
    history.require(head(size), head(size))


def test_another_root_is_a_fork_with_both_sizes_in_its_text() -> None:
    other = [bytes(32), *LEAVES[1:]]
    history = History.of(ORIGIN, LEAVES[:8], (3, 5))
    with pytest.raises(ForkError, match="size 8 does not continue the one of size 3") as caught:
        history.require(head(3, leaves=other), head(8))
    assert caught.value.code == "peer.crypto.fork"
    with pytest.raises(ForkError, match="two tree heads of size 8"):
        require_one_log(head(8, leaves=other), head(8), ())


def test_what_is_not_listed_is_not_proved() -> None:
    history = History.of(ORIGIN, LEAVES[:8], (3,))
    for old, new in (
        (head(4), head(8)),
        (head(3), head(7)),
        (head(3, origin="log.example/other"), head(8)),
        (head(3), head(8, leaves=[bytes(32), *LEAVES[1:]])),
    ):
        with pytest.raises(NotListedError):
            history.require(old, new)


def test_tree_heads_of_two_logs_are_no_fork() -> None:
    for size in (0, 3, 8):
        with pytest.raises(OriginError, match="two logs"):
            require_one_log(head(size, origin="log.example/other"), head(8), ())


def test_every_tree_continues_the_empty_one() -> None:
    history = History.of(ORIGIN, LEAVES[:8], (0, 3))
    assert list(history.paths) == [3]
    history.require(head(0), head(8))
    history.require(head(8), head(0))
    with pytest.raises(NotListedError):
        history.require(head(0, origin="log.example/other"), head(8))
    with pytest.raises(NotListedError):
        history.require(head(0), head(7))


GOOD = History.of(ORIGIN, LEAVES[:8], (3, 4)).encode()
HASH = base64.b64encode(bytes(32))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a consistency file"),
        (GOOD[:-1], "cut short|malformed|not in its one form"),
        (GOOD + b"\n", "malformed"),
        (GOOD.replace(b"sottovoce/1", b"sottovoce/2"), "not a consistency file"),
        (GOOD.replace(b"old 3", b"old 03"), "malformed"),
        (GOOD.replace(b"old 3", b"old 8"), "one form|outside"),
        (GOOD.replace(b"old 3", b"old 0"), "malformed"),
        (GOOD.replace(b"old 3\n", b""), "malformed"),
        (GOOD.replace(b"old 3", b"old 5"), "one form"),
        (GOOD.replace(b"old 4", b"old 3"), "one form|longer"),
        (GOOD.replace(b"\n8\n", b"\n08\n"), "not a checkpoint|one form"),
        (GOOD + b"AAAA\n", "hash"),
        (GOOD + (HASH + b"\n") * 65, "malformed"),
        (b"\xff" + GOOD, "UTF-8"),
        (GOOD + b"x" * (512 * 1024), "limit"),
    ],
)
def test_malformed_files_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        History.parse(data)


@given(st.binary(max_size=300) | st.binary(max_size=40).map(lambda tail: GOOD + tail))
def test_any_bytes_give_a_value_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(PeerError):
        assert History.parse(data).encode() == data
