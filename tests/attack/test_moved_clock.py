"""The host gives a CVM its clock: nothing that a CVM decides rests on it."""

import ast
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sottovoce import tee
from sottovoce.attest import verify
from sottovoce.attest.verdict import VerificationRefused
from sottovoce.simulator.testing import NOW, EvidenceWorld
from sottovoce.tee import attestation
from tee_kit import attester_of

YEARS = 10 * 365 * 86400
EXPORTER, SPKI = b"e" * 32, b"public key"
WORLD = EvidenceWorld()
PEER = WORLD.evidence(EXPORTER, SPKI, role="guard").encode()
WALL_CLOCKS = {"time", "time_ns", "now", "utcnow", "today", "clock_gettime", "ctime", "localtime", "gmtime"}


def accepts() -> bool:
    """Whether an orchestrator takes the guard."""
    try:
        attester_of(WORLD, "orchestrator").verify_peer(
            "guard", PEER, exporter=EXPORTER, spki=SPKI, from_client=False
        )
    except VerificationRefused:
        return False
    return True


@pytest.mark.parametrize("shift", [-YEARS, 0, YEARS])
def test_a_cvm_judges_its_peer_in_the_same_way(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW + shift)
    assert accepts()


@pytest.mark.parametrize(("shift", "accepted"), [(-YEARS, False), (0, True), (YEARS, False)])
def test_a_cvm_that_believed_its_host_could_be_steered(
    shift: int, accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW + shift)
    genuine = verify.verify_session
    monkeypatch.setattr(
        attestation,
        "verify_session",
        lambda evidence, *, policy, connection: genuine(
            evidence, policy=policy, connection=replace(connection, now=int(time.time()))
        ),
    )
    assert accepts() is accepted


def test_nothing_inside_a_cvm_reads_a_wall_clock() -> None:
    found = [
        f"{path.name}:{node.lineno}"
        for path in Path(tee.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in {"time", "datetime", "dt", "date"}
        and node.attr in WALL_CLOCKS
    ]
    assert found == []
