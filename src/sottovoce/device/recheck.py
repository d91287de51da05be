"""A report that a device exported, verified anew: nothing in it is believed but what its evidence proves."""

import base64
from dataclasses import replace
from typing import Final

from sottovoce.attest.policy import SessionPolicy
from sottovoce.attest.verdict import Check, Rule, Status, Verdict, VerificationRefused
from sottovoce.attest.verify import Connection, verify_session
from sottovoce.core.errors import DecodeError
from sottovoce.device.environment import Environment
from sottovoce.device.reports import Report

__all__ = ["is_empty", "recheck"]


_AGREES: Final = Rule(
    "9",
    "the report says what its evidence shows",
    "protocol §9",
    "have a report tell another story than what happened",
)
_BAD: Final = frozenset({Status.FAIL.value, Status.RELAXED.value})


def is_empty(report: Report) -> bool:
    """Whether the session ended before there was anything to verify, and before anything was sent."""
    return not (report.evidence or report.exporter or report.spki or report.verdict or report.size_class)


def recheck(report: Report, environment: Environment, policy: SessionPolicy) -> Verdict:
    """The verdict on the report's evidence, as of the report's time and for the connection that it names.

    The report does not hold the directory of its day: what only the directory knows (its list of hosts, what it revokes) is left
    out, and the verdict says so. A line of its own says whether the report's verdict is that of its evidence.

    Raises:
        DecodeError: the report holds no evidence, or is of another environment.
    """
    if report.environment != environment.name:
        raise DecodeError(
            "the report is of another environment than the pins", hint="--environment names the right ones"
        )
    evidence, exporter, spki = (
        base64.b64decode(field) for field in (report.evidence, report.exporter, report.spki)
    )
    if not (evidence and exporter and spki) and not report.size_class:
        raise DecodeError("the report holds no evidence: that session did not get so far, and sent nothing")
    connection = Connection(
        exporter=exporter, spki=spki, now=report.time, candidates=report.candidates, revocations=None
    )
    pinned = environment.session_policy()
    then = _judge(evidence, pinned, connection)
    verdict = then if policy == pinned else _judge(evidence, policy, connection)
    return replace(verdict, checks=(*verdict.checks, _agreement(report, then)))


def _judge(evidence: bytes, policy: SessionPolicy, connection: Connection) -> Verdict:
    try:
        return verify_session(evidence, policy=policy, connection=connection).verdict
    except VerificationRefused as refused:
        return refused.verdict


def _agreement(report: Report, verdict: Verdict) -> Check:
    found = {check.id: check.status.value for check in verdict.checks}
    judged = {
        line.id: line.status
        for line in report.verdict
        if line.id in found and Status.NOT_CHECKED.value not in (line.status, found[line.id])
    }
    differs = [check for check, said in judged.items() if (said in _BAD) != (found[check] in _BAD)]
    if report.size_class and any(line.status == Status.FAIL.value for line in report.verdict):
        differs.append("data were sent although a check had failed")
    if not judged:
        differs.append("it holds no verdict")
    return Check(
        id="report-agrees",
        rule=_AGREES,
        status=Status.FAIL if differs else Status.PASS,
        found=f"differs: {', '.join(differs)}" if differs else f"{len(judged)} lines",
        wanted="the verdict that the evidence has",
    )
