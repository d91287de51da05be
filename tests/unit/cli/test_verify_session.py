"""`sottovoce verify session`: a report is verified anew, and nothing that it says about itself is believed."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner, Result

from pins import pins
from sottovoce.attest.verdict import Verdict, VerificationRefused
from sottovoce.attest.verify import verify_session
from sottovoce.cli.main import cli
from sottovoce.core import canonical
from sottovoce.device.environment import Environment
from sottovoce.device.reports import CheckLine, Report
from sottovoce.simulator.testing import NOW, EvidenceWorld

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "verdict.schema.json").read_text())
WORLD = EvidenceWorld()
EXPORTER, SPKI = bytes(range(32)), b"a public key"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def judged(evidence: bytes) -> Verdict:
    policy, connection = WORLD.policy(), WORLD.connection(EXPORTER, SPKI)
    try:
        return verify_session(evidence, policy=policy, connection=connection).verdict
    except VerificationRefused as refused:
        return refused.verdict


def report(evidence: bytes | None = None, /, *, verdict_of: bytes | None = None, **changes: Any) -> Report:
    """What a device keeps of a session with this evidence; `verdict_of` lets it tell the verdict of another."""
    shown = WORLD.evidence(EXPORTER, SPKI).encode() if evidence is None else evidence
    lines = judged(shown if verdict_of is None else verdict_of).to_json()
    one = Report(
        id="ab" * 16,
        time=NOW,
        feature="summary",
        outcome="done",
        environment="test",
        simulated=True,
        relay="relay",
        size_class=4096,
        candidates=(WORLD.hosts["orchestrator"].id, "host-other"),
        evidence=encoded(shown),
        exporter=encoded(EXPORTER),
        spki=encoded(SPKI),
        verdict=tuple(CheckLine(**line) for line in lines),
    )
    return msgspec.structs.replace(one, **changes)


EMPTY: dict[str, Any] = {
    "evidence": "",
    "exporter": "",
    "spki": "",
    "verdict": (),
    "size_class": 0,
    "outcome": "unavailable",
}


@pytest.fixture
def verified(tmp_path: Path) -> Callable[..., Result]:
    def verify(
        *reports: Report, options: tuple[str, ...] = ("--json",), environment: Environment | None = None
    ) -> Result:
        document = {
            "format": "sottovoce-reports",
            "version": 1,
            "reports": [msgspec.to_builtins(one) for one in reports],
        }
        export, pinned = tmp_path / "reports.json", tmp_path / "environment.json"
        export.write_bytes(canonical.encode(document))
        pinned.write_bytes(msgspec.json.encode(environment or pins(WORLD)))
        words = [
            "--home",
            str(tmp_path / "home"),
            "verify",
            "session",
            str(export),
            "--environment",
            str(pinned),
        ]
        return CliRunner().invoke(cli, [*words, *options])

    return verify


Verified = Callable[..., Result]


def failed(result: Result) -> list[set[str]]:
    documents = json.loads(result.stdout)
    jsonschema.validate(documents, SCHEMA)
    return [{line["id"] for line in one["checks"] if line["status"] == "fail"} for one in documents]


def test_a_genuine_report_is_accepted_and_says_that_it_is_simulated(verified: Verified) -> None:
    result = verified(report())
    assert (result.exit_code, failed(result)) == (0, [set()])
    (document,) = json.loads(result.stdout)
    assert (document["report"], document["at"], document["simulated"]) == ("ab" * 16, NOW, True)
    lines = {line["id"]: line["status"] for line in document["checks"]}
    found = {line["id"]: line["found"] for line in document["checks"]}
    assert found["backend-guard"].startswith("said to be on host-guard, ")  # the directory is not at hand
    assert (lines["report-agrees"], lines["release-revoked"]) == ("pass", "not checked")
    text = verified(report(), options=())
    assert text.exit_code == 0
    assert text.stdout.startswith(f"report {'ab' * 16}\nSIMULATED HARDWARE")
    assert "ACCEPTED  session, policy strict, as of 2027-01-15 08:00:00 UTC" in text.stdout


def test_the_evidence_counts_and_not_what_the_report_says_of_it(verified: Verified) -> None:
    genuine = WORLD.evidence(EXPORTER, SPKI).encode()
    foreign = WORLD.evidence(b"x" * 32, SPKI).encode()
    result = verified(report(foreign, verdict_of=genuine))
    assert (result.exit_code, failed(result)) == (1, [{"binding", "report-agrees"}])
    result = verified(report(genuine, verdict_of=foreign))
    assert (result.exit_code, failed(result)) == (1, [{"report-agrees"}])
    result = verified(report(foreign, size_class=0))
    assert (result.exit_code, failed(result)) == (1, [{"binding"}])
    result = verified(report(simulated=False))
    assert json.loads(result.stdout)[0]["simulated"] is True


@pytest.mark.parametrize(
    ("changes", "checks"),
    [
        ({"time": NOW + 40 * 86400}, {"release-dates", "release-log-age", "host-log-age"}),
        ({"candidates": ("host-other",)}, {"candidate"}),
        ({"spki": encoded(b"another key")}, {"binding"}),
        ({"exporter": encoded(b"y" * 32)}, {"binding"}),
        ({"verdict": ()}, {"report-agrees"}),
    ],
)
def test_what_a_report_says_of_its_connection_is_compared(
    verified: Verified, changes: dict[str, Any], checks: set[str]
) -> None:
    result = verified(report(**changes))
    assert result.exit_code == 1
    (found,) = failed(result)
    assert checks <= found


def test_lines_that_no_check_has_are_no_verdict(verified: Verified) -> None:
    made_up = replace_id(report().verdict[0], "all-is-well")
    result = verified(report(verdict=(made_up,)))
    assert (result.exit_code, failed(result)) == (1, [{"report-agrees"}])
    refused = msgspec.structs.replace(made_up, status="fail")
    result = verified(report(verdict=(*report().verdict, refused)))
    assert (result.exit_code, failed(result)) == (1, [{"report-agrees"}])


def replace_id(line: CheckLine, check: str) -> CheckLine:
    return msgspec.structs.replace(line, id=check)


def test_a_report_of_data_sent_without_evidence_is_refused(verified: Verified) -> None:
    result = verified(report(**{**EMPTY, "size_class": 4096}))
    assert result.exit_code == 1
    assert {"decode", "report-agrees"} <= failed(result)[0]


def test_a_session_that_got_nowhere_hides_no_other(verified: Verified) -> None:
    empty = report(**{**EMPTY, "id": "cd" * 16})
    result = verified(empty, report(), empty)
    assert (result.exit_code, failed(result)) == (0, [set()])
    assert result.stderr.count(f"report {'cd' * 16}: left out") == 2
    assert verified(empty).exit_code == 2
    assert verified(empty, empty).exit_code == 2
    assert verified(empty, report(), options=("--id", "cd", "--json")).exit_code == 2


def test_one_that_is_refused_among_many(verified: Verified) -> None:
    foreign = report(WORLD.evidence(b"x" * 32, SPKI).encode(), size_class=0)
    assert verified(report(), foreign).exit_code == 1
    assert verified(foreign, report()).exit_code == 1


def test_what_cannot_be_verified_here(verified: Verified) -> None:
    assert verified().exit_code == 2
    assert verified(report(), options=("--id", "00")).exit_code == 2
    assert verified(report(environment="another")).exit_code == 2
    assert verified(report(exporter=encoded(b"short"))).exit_code == 2
    assert verified(report(), options=("--policy", "chain-only")).exit_code == 2


def test_a_policy_judges_anew_and_its_changes_are_said(verified: Verified, tmp_path: Path) -> None:
    tight, weak = tmp_path / "tight.toml", tmp_path / "weak.toml"
    tight.write_text('version = 1\ndemand = ["platform-ecc"]\n[snp]\nproducts = ["Genoa"]\n')
    result = verified(report(), options=("--policy", str(tight), "--json"))
    assert (result.exit_code, failed(result)) == (1, [{"product"}])
    weak.write_text('version = 1\nrelax = ["product"]\n[snp]\nproducts = ["Genoa", "Milan"]\n')
    result = verified(report(), options=("--policy", str(weak)))
    assert result.exit_code == 0
    assert "  relaxed by the policy: product\n" in result.stdout
    assert (
        "the policy lets that pass, so an attacker could use a processor that lacks a protection"
        in result.stdout
    )


def test_an_export_of_many_sessions_is_not_too_long(verified: Verified) -> None:
    padded = report(candidates=(WORLD.hosts["orchestrator"].id, "x" * (17 << 20)))
    assert verified(padded).exit_code == 0


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_time_that_no_calendar_has(verified: Verified, options: tuple[str, ...]) -> None:
    result = verified(report(time=(1 << 53) - 1), options=options)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)


def test_nothing_in_a_report_steers_the_terminal(verified: Verified) -> None:
    hostile = report(candidates=(WORLD.hosts["orchestrator"].id, "\x1b[2JACCEPTED\n\u202e"))
    result = verified(hostile, options=())
    assert result.exit_code == 0
    assert "\ufffd[2JACCEPTED\ufffd\ufffd" in result.stdout
    assert "\x1b" not in result.stdout
