"""What two tree heads prove of a log, and what they do not."""

import hashlib

import pytest

from sottovoce.core.errors import ConfigError
from sottovoce.device.directory import LastSeen
from sottovoce.device.gossip import compare
from sottovoce.tlog import merkle
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.history import ForkError
from sottovoce.tlog.policy import OriginError, VerifiedCheckpoint

LEAVES = [hashlib.sha256(bytes([number])).digest() for number in range(8)]
OTHERS = [hashlib.sha256(bytes([number, 1])).digest() for number in range(8)]


def theirs(size: int, leaves: list[bytes] = LEAVES, origin: str = "log.example") -> Checkpoint:
    return Checkpoint(origin=origin, size=size, root=merkle.tree_head(leaves[:size]))


def ours(size: int, leaves: list[bytes] = LEAVES) -> LastSeen:
    root = merkle.tree_head(leaves[:size])
    return LastSeen(
        epoch=20784, checkpoint=VerifiedCheckpoint(origin="log.example", size=size, root=root, time=0)
    )


def test_heads_of_one_log() -> None:
    assert compare(theirs(5), ours(5), []) == "both hold the same tree head, of size 5"
    for head, last in ((theirs(3), ours(7)), (theirs(7), ours(3)), (theirs(0), ours(7))):
        assert "of size 7 continues" in compare(head, last, LEAVES)


def test_two_histories() -> None:
    with pytest.raises(ForkError, match="two tree heads of size 5"):
        compare(theirs(5, OTHERS), ours(5), [])
    for head, last in (
        (theirs(3, OTHERS), ours(7)),
        (theirs(7), ours(3, OTHERS)),
        (theirs(7, OTHERS), ours(3)),
    ):
        with pytest.raises(ForkError, match="forked"):
            compare(head, last, LEAVES)


def test_two_logs_are_no_fork() -> None:
    for size in (3, 5, 7):
        with pytest.raises(OriginError, match="of two logs"):
            compare(theirs(size, OTHERS, "other.example"), ours(5), LEAVES)


def test_files_that_prove_nothing() -> None:
    for head, files in ((theirs(7), LEAVES[:6]), (theirs(7, OTHERS), OTHERS[:6]), (theirs(7), OTHERS)):
        with pytest.raises(ConfigError, match="nothing is proved"):
            compare(head, ours(0), files)
