"""Every verdict is a document of docs/verdict.schema.json, and the schema is not so wide that it says nothing."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sottovoce.attest.policy import SnpPolicy
from sottovoce.attest.rules import session_rules
from sottovoce.attest.simulated import SIMULATED_KIND
from sottovoce.attest.snp.verify import SNP_REPORT_RULES, verify_report
from sottovoce.attest.tdx.verify import verify_quote
from sottovoce.attest.verdict import Verdict, VerificationRefused
from sottovoce.attest.verify import verify_session
from sottovoce.simulator.intel import QuoteFields
from sottovoce.simulator.processor import SimulatedProcessor
from sottovoce.simulator.testing import NOW, EvidenceWorld, intel, vendor

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "verdict.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def document(verdict: Verdict, platform: str) -> dict[str, Any]:
    return verdict.document(platform=platform, policy="strict", at=NOW, simulated=True)


def snp() -> Verdict:
    chip = vendor().make_chip(now=NOW)
    report = SimulatedProcessor(chip, b"m" * 48).report(bytes(64))
    policy = SnpPolicy(roots=(vendor().root,))
    return verify_report(report, chip.vcek, intermediates=(vendor().ask,), policy=policy, now=NOW)


def tdx() -> Verdict:
    quote = intel().make_platform(now=NOW).quote(QuoteFields(report_data=bytes(64)))
    return verify_quote(quote, intel().collateral(now=NOW), policy=intel().policy, now=NOW)


def session() -> Verdict:
    world = EvidenceWorld()
    evidence = world.evidence(b"e" * 32, b"k").encode()
    connection = world.connection(b"e" * 32, b"k")
    try:
        return verify_session(evidence, policy=world.policy(), connection=connection).verdict
    except VerificationRefused as refused:
        return refused.verdict


GOOD = document(snp(), "sev-snp")


def test_the_schema_is_one() -> None:
    VALIDATOR.check_schema(SCHEMA)


@pytest.mark.parametrize(("platform", "make"), [("sev-snp", snp), ("tdx", tdx), ("session", session)])
def test_verdicts_fit(platform: str, make: Any) -> None:
    VALIDATOR.validate(json.loads(json.dumps(document(make(), platform))))


def test_a_list_of_sessions_fits() -> None:
    VALIDATOR.validate([{"report": "0123", **document(session(), "session")}])


def spoilt(**changes: Any) -> dict[str, Any]:
    return {**GOOD, **changes}


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        [GOOD],
        spoilt(version=2),
        spoilt(format="other"),
        spoilt(platform="sgx"),
        spoilt(accepted="yes"),
        spoilt(at="today"),
        spoilt(checks=[]),
        spoilt(other=1),
        spoilt(report="0123"),
        spoilt(relaxed=["product", "product"]),
        spoilt(checks=[{**GOOD["checks"][0], "status": "ok"}]),
        spoilt(checks=[{**GOOD["checks"][0], "id": "Chain"}]),
        spoilt(checks=[{**GOOD["checks"][0], "more": ""}]),
        {name: value for name, value in GOOD.items() if name != "checks"},
        spoilt(checks=[{name: value for name, value in GOOD["checks"][0].items() if name != "risk"}]),
    ],
)
def test_what_does_not_fit(value: Any) -> None:
    assert not VALIDATOR.is_valid(value)


@pytest.mark.parametrize("rules", [session_rules(SIMULATED_KIND), session_rules("tdx"), SNP_REPORT_RULES])
def test_every_id_and_section_fits(rules: Any) -> None:
    identifier = jsonschema.Draft202012Validator({**SCHEMA, "oneOf": [{"$ref": "#/$defs/id"}]})
    for check, rule in rules.items():
        assert identifier.is_valid(check)
        assert rule.title
        assert rule.source
        assert rule.risk
        assert not rule.risk.endswith(".")
