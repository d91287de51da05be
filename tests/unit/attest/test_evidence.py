"""Evidence as bytes, the binding of a session, and what a verified session hands on."""

from typing import Any

import pytest

from sottovoce.attest.binding import peer_leaf, session_leaf
from sottovoce.attest.evidence import EVIDENCE_TYPE, Batch, Evidence, Platform
from sottovoce.attest.verify import verify_session
from sottovoce.core import cbor
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.simulator.testing import EvidenceWorld

EXPORTER, SPKI = b"e" * 32, b"public key"
WORLD = EvidenceWorld()
GOOD = WORLD.evidence(EXPORTER, SPKI)


def test_evidence_has_one_form() -> None:
    assert Evidence.decode(GOOD.encode()) == GOOD


@pytest.mark.parametrize(
    "body", [list(range(1, 8)), 1, "text", {}, dict.fromkeys(range(1, 7)), dict.fromkeys(range(1, 9))]
)
def test_a_body_of_another_form(body: Any) -> None:
    with pytest.raises(DecodeError, match="missing or unknown members"):
        Evidence.decode(cbor.encode([EVIDENCE_TYPE, cbor.encode(body)]))


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (0, 0), (1, 1), (2, 1), (0, (1 << 16) + 1)])
def test_a_batch_that_cannot_be(index: int, size: int) -> None:
    with pytest.raises(DecodeError, match="a batch that cannot be"):
        Batch(index=index, size=size, path=())


@pytest.mark.parametrize(("index", "size"), [(0, 1), (1, 2), ((1 << 16) - 1, 1 << 16)])
def test_the_ends_of_a_batch(index: int, size: int) -> None:
    assert Batch(index=index, size=size, path=()).index == index


@pytest.mark.parametrize(
    ("exporter", "spki"), [(b"e" * 31, SPKI), (b"e" * 33, SPKI), (b"", SPKI), (EXPORTER, b"")]
)
def test_a_binding_needs_both(exporter: bytes, spki: bytes) -> None:
    for leaf in (session_leaf, peer_leaf):
        with pytest.raises(UsageError, match="a 32-byte exporter and a public key"):
            leaf(exporter, spki)


def test_what_a_verified_session_hands_on() -> None:
    verified = verify_session(
        GOOD.encode(), policy=WORLD.policy(), connection=WORLD.connection(EXPORTER, SPKI)
    )
    assert (verified.evidence, verified.exporter, verified.spki) == (GOOD, EXPORTER, SPKI)
    assert (verified.release, verified.host) == (WORLD.releases["orchestrator"], WORLD.hosts["orchestrator"])
    assert verified.platform.measurement.hex() in verified.release.measurements
    assert verified.log_indexes == (0, 1)
    assert verified.verdict.accepted


def with_member(number: int, value: Any, *, media: str = EVIDENCE_TYPE) -> bytes:
    body = cbor.decode(cbor.decode(GOOD.encode(), limit=1 << 17)[1], limit=1 << 17)
    return cbor.encode([media, cbor.encode({**body, number: value})])


@pytest.mark.parametrize(
    ("number", "value", "words"),
    [
        (1, ["application/other", b"report"], "the evidence is of an unknown platform"),
        (1, [b"report", b"report"], "the evidence has a value of the wrong type"),
        (1, [b"report"], "the evidence has an array of the wrong length"),
        (1, b"report", "the evidence has an array of the wrong length"),
        (6, [1], "the evidence has a value of the wrong type"),
        (6, b"gpu", "the evidence has a value of the wrong type"),
        (
            7,
            [["gardener", bytes(48), [b"entry", b"proof"], "host"]],
            "the evidence has a back end of an unknown role",
        ),
    ],
)
def test_each_member_has_its_form(number: int, value: Any, words: str) -> None:
    with pytest.raises(DecodeError) as refused:
        Evidence.decode(with_member(number, value))
    assert str(refused.value) == words


def test_another_media_type() -> None:
    good = cbor.decode(cbor.decode(GOOD.encode(), limit=1 << 17)[1], limit=1 << 17)
    with pytest.raises(DecodeError, match="the CMW record has another media type"):
        Evidence.decode(with_member(1, good[1], media="application/other"))


def test_a_platform_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="evidence needs a known platform"):
        Platform(kind="other", report=b"")
