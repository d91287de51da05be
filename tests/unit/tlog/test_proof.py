import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import DecodeError, PeerError, UsageError
from sottovoce.simulator.log_memory import MemoryLog
from sottovoce.tlog.merkle import InclusionError
from sottovoce.tlog.note import Note, NoteSignature, SignatureError, SigningKey, VerifierKey
from sottovoce.tlog.policy import CheckpointAgeError, LogPolicy, OriginError, QuorumError
from sottovoce.tlog.proof import Proof, encode_proof, verify_proof

NOW = 1_800_000_000
LOG = MemoryLog("log.example/test")
for number in range(9):
    LOG.append(b"entry %d" % number)
PROOF = LOG.proof(4, now=NOW)


def test_a_logged_entry() -> None:
    logged = verify_proof(PROOF, b"entry 4", LOG.policy(), now=NOW)
    assert (logged.index, logged.entry) == (4, b"entry 4")
    assert (logged.checkpoint.size, logged.checkpoint.time) == (9, NOW)


def test_the_text_form_of_the_specification() -> None:
    lines = PROOF.decode().split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 4"]
    assert lines[6:9] == ["", "log.example/test", "9"]


def test_an_entry_that_is_not_there() -> None:
    with pytest.raises(InclusionError):
        verify_proof(PROOF, b"entry 5", LOG.policy(), now=NOW)


def test_another_log() -> None:
    other = MemoryLog("log.example/production")
    with pytest.raises(OriginError, match="another log"):
        verify_proof(PROOF, b"entry 4", other.policy(), now=NOW)


def test_the_right_origin_signed_by_another_key() -> None:
    policy = MemoryLog("log.example/test").policy()
    with pytest.raises(OriginError, match="not signed"):
        verify_proof(PROOF, b"entry 4", policy, now=NOW)


@pytest.mark.parametrize("keep", [0, 1])
def test_too_few_witnesses(keep: int) -> None:
    parsed = Proof.parse(PROOF)
    note = Note(text=parsed.note.text, signatures=parsed.note.signatures[: 1 + keep])
    short = encode_proof(index=parsed.index, path=parsed.path, checkpoint=note)
    with pytest.raises(QuorumError):
        verify_proof(short, b"entry 4", LOG.policy(), now=NOW)


def test_one_witness_twice_is_one() -> None:
    parsed = Proof.parse(PROOF)
    log, first, _ = parsed.note.signatures
    twice = encode_proof(
        index=4, path=parsed.path, checkpoint=Note(text=parsed.note.text, signatures=(log, first, first))
    )
    with pytest.raises(QuorumError):
        verify_proof(twice, b"entry 4", LOG.policy(), now=NOW)


@pytest.mark.parametrize("now", [NOW + 86_401, NOW - 301])
def test_stale_and_future_checkpoints(now: int) -> None:
    with pytest.raises(CheckpointAgeError):
        verify_proof(PROOF, b"entry 4", LOG.policy(), now=now)


def test_a_proof_that_is_remembered_still_grows_old_and_is_of_one_entry_and_one_policy() -> None:
    policy = LOG.policy()
    verify_proof(PROOF, b"entry 4", policy, now=NOW)
    with pytest.raises(CheckpointAgeError):
        verify_proof(PROOF, b"entry 4", policy, now=NOW + 86_401)
    with pytest.raises(InclusionError):
        verify_proof(PROOF, b"entry 5", policy, now=NOW)
    with pytest.raises(OriginError):
        verify_proof(PROOF, b"entry 4", MemoryLog("log.example/test").policy(), now=NOW)


def test_without_a_clock_only_the_age_is_left_out() -> None:
    assert verify_proof(PROOF, b"entry 4", LOG.policy(), now=None).index == 4


def test_a_policy_needs_witnesses() -> None:
    policy = LOG.policy()
    for witnesses, quorum in (
        ((), 0),
        (policy.witnesses, 0),
        (policy.witnesses, 3),
        (policy.witnesses[:1] * 2, 2),
    ):
        with pytest.raises(UsageError):
            LogPolicy(origin=policy.origin, log_key=policy.log_key, witnesses=witnesses, quorum=quorum)
    with pytest.raises(UsageError):
        LogPolicy(
            origin="x", log_key=policy.log_key, witnesses=(SigningKey.generate("w").verifier,), quorum=1
        )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"@v1", b"@v2"),
        (b"index 4", b"index 04"),
        (b"index 4", b"extra YQ=\nindex 4"),
        (b"index 4", b"extra YR==\nindex 4"),
        (b"index 4", b"extra\nindex 4"),
        (b"index 4", b"extra YQ==\nextra YQ==\nindex 4"),
        (b"index 4\n", b"index 4\nextra YQ==\n"),
        (b"index 4\n", b""),
        (b"\n\n", b"\n"),
    ],
)
def test_malformed_proofs(old: bytes, new: bytes) -> None:
    with pytest.raises(DecodeError):
        Proof.parse(PROOF.replace(old, new, 1))


@given(st.integers(0, len(PROOF) - 1), st.integers(1, 255))
def test_no_changed_byte_is_accepted_with_another_meaning(at: int, flip: int) -> None:
    changed = bytearray(PROOF)
    changed[at] ^= flip
    try:
        logged = verify_proof(bytes(changed), b"entry 4", LOG.policy(), now=NOW)
    except PeerError:
        return
    assert (logged.index, logged.checkpoint.size) == (4, 9)


def test_a_checkpoint_is_verified_once_for_one_policy_and_a_refusal_is_never_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bytes] = []
    verify = VerifierKey._verify

    def counted(key: VerifierKey, signature: bytes, message: bytes) -> None:
        asked.append(signature)
        verify(key, signature, message)

    monkeypatch.setattr(VerifierKey, "_verify", counted)
    log = MemoryLog("log.example/cached")
    for number in range(9):
        log.append(b"entry %d" % number)
    for index in (4, 5, 4):
        assert verify_proof(log.proof(index, now=NOW), b"entry %d" % index, log.policy(), now=NOW)
    assert len(asked) == 3
    # What was verified for one policy is asked anew for another, and for any other text or signature.
    assert verify_proof(log.proof(4, now=NOW), b"entry 4", log.policy(quorum=1), now=NOW)
    assert len(asked) == 6
    parsed = Proof.parse(log.proof(4, now=NOW))
    first, *others = parsed.note.signatures
    spoiled = NoteSignature(name=first.name, key_id=first.key_id, signature=bytes(64))
    for _ in range(2):
        asked.clear()
        with pytest.raises(SignatureError):
            log.policy().verify_checkpoint(
                Note(text=parsed.note.text, signatures=(spoiled, *others)), now=NOW
            )
        assert asked == [bytes(64)]
    # Time is never part of what is kept.
    with pytest.raises(CheckpointAgeError):
        log.policy().verify_checkpoint(parsed.note, now=NOW + 86_401)


@pytest.mark.parametrize("extra", [b"", b"a", bytes(2000)])
def test_extra_data_is_read_and_refused_where_it_would_be_believed(extra: bytes) -> None:
    parsed = Proof.parse(PROOF)
    more = encode_proof(index=parsed.index, path=parsed.path, checkpoint=parsed.note, extra=extra)
    assert Proof.parse(more) == Proof(index=4, path=parsed.path, note=parsed.note, extra=extra)
    with pytest.raises(DecodeError, match="extra data"):
        verify_proof(more, b"entry 4", LOG.policy(), now=NOW)
