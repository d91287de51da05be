import dataclasses

import pytest

from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.simulator.log_memory import MemoryLog
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.merkle import EMPTY_ROOT
from sottovoce.tlog.note import COSIGNATURE, Note, SignatureError, SigningKey, sign_note
from sottovoce.tlog.policy import CheckpointAgeError, LogPolicy, OriginError, QuorumError

NOW = 1_800_000_000
DAY = 86_400
LOG = MemoryLog("log.example/test")
LOG.append(b"entry")
KEYS = [SigningKey.generate(f"witness.example/{number}", COSIGNATURE) for number in range(3)]


def policy(quorum: int = 2, **changes: object) -> LogPolicy:
    keys = tuple(key.verifier for key in KEYS)
    whole = LogPolicy(origin=LOG.origin, log_key=LOG.key.verifier, witnesses=keys, quorum=quorum)
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def checkpoint(*times: int | None) -> Note:
    """The log's tree head, cosigned by each witness at its time; by none that has None."""
    note = sign_note(LOG.checkpoint(now=NOW).text, [LOG.key])
    made = [
        key.cosign(note.text, time=time) for key, time in zip(KEYS, times, strict=False) if time is not None
    ]
    return Note(text=note.text, signatures=(*note.signatures, *made))


@pytest.mark.parametrize(
    ("quorum", "times", "reached"),
    [
        (1, (NOW, NOW - 50, NOW - 90), NOW),
        (2, (NOW, NOW - 50, NOW - 90), NOW - 50),
        (3, (NOW, NOW - 50, NOW - 90), NOW - 90),
        (2, (NOW - 90, None, NOW), NOW - 90),
        # One witness's wrong clock, fast or slow, does not decide.
        (2, (NOW + 9999, NOW - 50, NOW - 90), NOW - 50),
        (2, (1, NOW - 50, NOW), NOW - 50),
    ],
)
def test_the_time_of_a_checkpoint_is_when_its_quorum_was_reached(
    quorum: int, times: tuple[int | None, ...], reached: int
) -> None:
    seen = policy(quorum).verify_checkpoint(checkpoint(*times), now=NOW)
    assert (seen.origin, seen.size, seen.time) == (LOG.origin, 1, reached)


@pytest.mark.parametrize(
    ("quorum", "count"), [(quorum, count) for quorum in (1, 2, 3) for count in range(quorum)]
)
def test_fewer_witnesses_than_the_quorum_are_refused(quorum: int, count: int) -> None:
    with pytest.raises(QuorumError):
        policy(quorum).verify_checkpoint(checkpoint(*[NOW] * count), now=NOW)
    assert policy(quorum).verify_checkpoint(checkpoint(*[NOW] * quorum), now=NOW).time == NOW


def test_witnesses_that_are_not_pinned_do_not_count() -> None:
    note = checkpoint(NOW)
    others = [SigningKey.generate(key.name, COSIGNATURE).cosign(note.text, time=NOW) for key in KEYS]
    with pytest.raises(QuorumError):
        policy().verify_checkpoint(Note(text=note.text, signatures=(*note.signatures, *others)), now=NOW)


def test_one_false_cosignature_of_a_pinned_witness_is_refused_beside_a_quorum() -> None:
    note, other = checkpoint(NOW, NOW), KEYS[2].cosign("another text\n", time=NOW)
    with pytest.raises(SignatureError):
        policy().verify_checkpoint(Note(text=note.text, signatures=(*note.signatures, other)), now=NOW)


def test_a_checkpoint_without_the_logs_own_signature_is_refused() -> None:
    note = checkpoint(NOW, NOW, NOW)
    with pytest.raises(OriginError, match="not signed"):
        policy().verify_checkpoint(Note(text=note.text, signatures=note.signatures[1:]), now=NOW)


def test_a_checkpoint_of_another_origin_is_refused_though_everybody_signed_it() -> None:
    text = Checkpoint(origin="log.example/other", size=0, root=EMPTY_ROOT).encode()
    note = sign_note(text, [LOG.key])
    note = Note(text=text, signatures=(*note.signatures, *(key.cosign(note.text, time=NOW) for key in KEYS)))
    with pytest.raises(OriginError, match="another log"):
        policy().verify_checkpoint(note, now=NOW)
    assert policy(origin="log.example/other").verify_checkpoint(note, now=NOW).size == 0


@pytest.mark.parametrize(
    ("age", "fresh"), [(0, True), (DAY, True), (DAY + 1, False), (-300, True), (-301, False)]
)
def test_a_checkpoint_is_fresh_for_a_day_and_five_minutes_ahead(age: int, *, fresh: bool) -> None:
    note = checkpoint(NOW - age, NOW - age)
    seen = policy().verify_checkpoint(note, now=None)
    assert seen.time == NOW - age
    if fresh:
        assert policy().verify_checkpoint(note, now=NOW) == seen
        policy().require_fresh(seen, now=NOW)
        return
    with pytest.raises(CheckpointAgeError):
        policy().verify_checkpoint(note, now=NOW)
    with pytest.raises(CheckpointAgeError):
        policy().require_fresh(seen, now=NOW)


def test_the_age_is_the_policys() -> None:
    note = checkpoint(NOW - 61, NOW - 61)
    assert policy(max_age=61).verify_checkpoint(note, now=NOW)
    with pytest.raises(CheckpointAgeError):
        policy(max_age=60).verify_checkpoint(note, now=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": ""},
        {"log_key": KEYS[0].verifier},
        {"witnesses": (LOG.key.verifier,), "quorum": 1},
        {"witnesses": ()},
        {"quorum": 0},
        {"quorum": -1},
        {"quorum": 4},
        # One key under two names is one witness.
        {
            "witnesses": (
                KEYS[0].verifier,
                dataclasses.replace(KEYS[0].verifier, name="witness.example/alias"),
            )
        },
    ],
)
def test_a_policy_that_could_not_protect_cannot_be_written_down(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        policy(**changes)  # type: ignore[arg-type]


ROOT = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
"""The head of the empty tree, base64."""


def test_a_checkpoint_has_one_form_and_may_have_extensions() -> None:
    text = f"log.example/x\n0\n{ROOT}\nmore\n"
    assert Checkpoint.parse(text) == Checkpoint(
        origin="log.example/x", size=0, root=EMPTY_ROOT, extensions=("more",)
    )
    assert Checkpoint.parse(text).encode() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log\n0\n",
        f"log\n0\n{ROOT}",
        f"\n0\n{ROOT}\n",
        f"log\n00\n{ROOT}\n",
        f"log\n-1\n{ROOT}\n",
        f"log\n 1\n{ROOT}\n",
        f"log\n1x\n{ROOT}\n",
        f"log\n{'1' * 20}\n{ROOT}\n",
        f"log\n{1 << 63}\n{ROOT}\n",
        f"log\n1\n{ROOT[:-1]}\n",
        f"log\n1\n{ROOT[:-2]}V=\n",
        f"log\n1\n{ROOT[4:]}\n",
        "log\n1\n\u00e9\n",
        f"log\n1\n{ROOT}\n\n",
        f"log\n0\n{'A' * 43}=\n",
    ],
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        Checkpoint.parse(text)


def test_who_looks_at_other_things_first_reads_an_empty_tree_with_another_root() -> None:
    text = f"log\n0\n{'A' * 43}=\n"
    assert not Checkpoint.parse(text, empty_root=False).rooted
    assert Checkpoint.parse(f"log\n{(1 << 63) - 1}\n{ROOT}\n").rooted
