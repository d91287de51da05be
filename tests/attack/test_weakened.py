"""The attacks on what is read before anything can be judged succeed against a reader that lacks just that rule."""

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attack_kit import REQUEST, MemoryStage
from sottovoce.attacks import NAMES, find
from sottovoce.attacks.attack import Trial
from sottovoce.attacks.renamed_artifact import starts, tries
from sottovoce.attacks.rogue import CLAIM, RogueServer
from sottovoce.attacks.stage import Target
from sottovoce.attest import logged, verify
from sottovoce.attest.binding import session_leaf
from sottovoce.core import cbor, tls
from sottovoce.core.limits import LIMITS
from sottovoce.core.tls import ClientHandshake, EvidenceOffer
from sottovoce.simulator.roles import role_settings
from sottovoce.simulator.testing import NOW
from sottovoce.tee import boot
from sottovoce.tee.features.prompts import check_prompts, prompts_digest
from sottovoce.tee.settings import ArtifactMismatchError, Model, Settings
from sottovoce.tlog import entries, members
from sottovoce.tlog.artifacts import Tree, artifact_digest
from sottovoce.tlog.policy import LogPolicy
from sottovoce.tlog.proof import LoggedEntry

ATTACKS = [find(name) for name in NAMES]
STAGE = MemoryStage()
for entry in [entry for attack in ATTACKS for entry in attack.entries(STAGE.stage)]:
    STAGE.world.append(entry)


def trials(name: str) -> tuple[Trial, ...]:
    return find(name).trials


def succeeds(trial: Trial) -> bool:
    attempt = STAGE.attempt(trial)
    return (attempt.stopped_by, attempt.read) == (set(), REQUEST)


# Row 20: a verifier that believes whoever shows a proof.

UNPROVED = [
    *trials("other-log"),
    *(trial for trial in trials("stale-beside-fresh") if trial.stopped_by == {"release-log"}),
]


@pytest.mark.parametrize("trial", UNPROVED, ids=lambda trial: trial.tries)
def test_without_the_proof(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    head = STAGE.world.log.policy().verify_checkpoint(STAGE.world.log.checkpoint(now=NOW), now=NOW)

    def believe(_: bytes, entry: bytes, __: LogPolicy, *, now: int | None) -> LoggedEntry:
        return LoggedEntry(entry=entry, index=0, checkpoint=head)

    assert not succeeds(trial)
    monkeypatch.setattr(logged, "verify_proof", believe)
    assert succeeds(trial)


def test_without_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = members.open_entry
    (trial,) = (t for t in trials("guard-as-orchestrator") if "another kind" in t.tries)
    assert not succeeds(trial)

    def any_kind(data: bytes, kind: str, **limits: Any) -> Any:
        return genuine(data.replace(b'"kind":"artifact"', b'"kind":"release"'), kind, **limits)

    monkeypatch.setattr(entries, "open_entry", any_kind)
    assert succeeds(trial)


# Row 19: a digest over contents alone, as the audited system had it.


def predictor(path: Path, content: bytes) -> Settings:
    digest = artifact_digest(
        name="model", purpose="inference", sha256=hashlib.sha256(content).hexdigest(), size=len(content)
    )
    model = Model(name="model", digest=digest, bytes=len(content), purpose="inference")
    path.write_bytes(content)
    return msgspec.structs.replace(role_settings("predictor"), model=model, prompts=prompts_digest())


@pytest.mark.parametrize("number", range(3))
def test_with_a_digest_over_contents_alone(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contents(tree: Tree, *, name: str, purpose: str) -> str:
        return hashlib.sha256(b"".join(sorted(bytes.fromhex(file.sha256) for file in tree.files))).hexdigest()

    def attempts() -> Callable[[], object]:
        return list(tries(predictor(tmp_path / "weights", b"weights"), tmp_path / "weights").values())[number]

    with pytest.raises(ArtifactMismatchError):
        attempts()()
    monkeypatch.setattr(Tree, "digest", contents)
    if number == 2:  # the purpose is looked at apart from the digest too
        with pytest.raises(ArtifactMismatchError):
            attempts()()
        monkeypatch.setattr(boot, "_PURPOSE", "guarding")
    attempts()()


def test_what_was_published_starts(tmp_path: Path) -> None:
    settings = predictor(tmp_path / "weights", b"weights")
    starts(settings, tmp_path / "weights", "model")()
    check_prompts(settings.prompts)
    for changed in (b"weighty", b"weights ", b""):
        (tmp_path / "weights").write_bytes(changed)
        with pytest.raises(ArtifactMismatchError):
            starts(settings, tmp_path / "weights", "model")()


# Part B: a client that reads more of the certificate than its key, and binds evidence to that key alone.


def test_with_belief_in_the_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, bound_to_key = trials("malleable-certificate")
    genuine = EvidenceOffer.__init__

    def from_certificate(self: EvidenceOffer, connection: Any, shown: bytes, spki: bytes) -> None:
        certificate = connection.connection.get_peer_certificate(as_cryptography=True)
        claim: Any = certificate.extensions.get_extension_for_oid(CLAIM).value
        genuine(self, connection, shown or claim.value, spki)

    assert not succeeds(trial)
    monkeypatch.setattr(EvidenceOffer, "__init__", from_certificate)
    assert STAGE.attempt(trial).stopped_by == {"binding"}
    monkeypatch.setattr(verify, "session_leaf", lambda _, spki: session_leaf(bytes(32), spki))
    assert succeeds(trial)
    assert succeeds(bound_to_key)


# Part B: readers without limits.


def oversized(words: str) -> Trial:
    (trial,) = (trial for trial in trials("oversized-evidence") if words in trial.tries)
    return trial


def flight(trial: Trial) -> tuple[ClientHandshake, RogueServer]:
    """A device that has the attacker's first flight before it."""
    server, client = trial.server(STAGE.stage), ClientHandshake()
    server.receive(client.first_flight())
    return client, server


def bytes_of(trial: Trial) -> bytes:
    forged = trial.forge(STAGE.stage, Target(exporter=bytes(32), spki=b"any"))
    assert isinstance(forged, bytes)
    return forged


def test_without_a_limit_more_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = oversized("one byte more")
    monkeypatch.setattr(tls, "LIMITS", replace(LIMITS, evidence=1 << 30))
    client, server = flight(trial)
    server.attest(bytes_of(trial))
    offer = client.receive(server.outgoing())
    assert offer is not None
    assert len(offer.evidence) == LIMITS.evidence + 1


def test_without_a_limit_a_device_gathers_what_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = oversized("gigabyte")
    monkeypatch.setattr(tls, "LIMITS", replace(LIMITS, evidence=1 << 31))
    client, server = flight(trial)
    server.attest(bytes(8 * LIMITS.evidence))
    assert client.receive(server.outgoing()) is None
    assert len(client._evidence._buffer) > 8 * LIMITS.evidence


def decode_with(monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], Any]) -> None:
    genuine = cbor.decode
    monkeypatch.setattr(cbor, "decode", lambda data, *, limit: genuine(change(data), limit=limit))


@pytest.mark.parametrize("words", ["one in the other", "within the record"])
def test_without_a_depth_the_interpreter_gives_up(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = next(t for t in trials("oversized-evidence") if words in t.tries)
    assert STAGE.attempt(deep).stopped_by == {"decode"}
    monkeypatch.setattr(cbor, "LIMITS", replace(LIMITS, cbor_depth=1 << 30))
    with pytest.raises(RecursionError):
        STAGE.attempt(deep)


def test_a_reader_that_makes_room_for_what_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = cbor._argument

    def roomy(data: bytes, at: int) -> tuple[int, int, int]:
        major, argument, end = genuine(data, at)
        if major == cbor._ARRAY:
            [None] * argument
        return major, argument, end

    many = oversized("2^60")
    monkeypatch.setattr(cbor, "_argument", roomy)
    with pytest.raises(MemoryError):
        STAGE.attempt(many)


def test_a_reader_that_decompresses(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def expand(data: bytes) -> bytes:
        for window in (zlib.MAX_WBITS, zlib.MAX_WBITS | 16):
            try:
                expanded = zlib.decompress(data, window)
            except zlib.error:
                continue
            made.append(len(expanded))
            return expanded
        return data

    decode_with(monkeypatch, expand)
    for words in ("gzip", "zlib"):
        assert STAGE.attempt(oversized(words)).stopped_by == {"decode"}
    assert made == [16 * 1024 * 1024] * 2
