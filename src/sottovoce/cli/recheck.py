"""A report that a device exported, verified anew: nothing in it is believed but what its evidence proves."""

import base64

from sottovoce.attest.policy import SessionPolicy
from sottovoce.attest.verdict import Verdict, VerificationRefused
from sottovoce.attest.verify import Connection, verify_session
from sottovoce.core.errors import DecodeError
from sottovoce.device.environment import Environment
from sottovoce.device.reports import Report

__all__ = ["recheck"]


def recheck(report: Report, environment: Environment, policy: SessionPolicy) -> Verdict:
    """The verdict on the report's evidence, as of the report's time and for the connection that it names.

    The report does not hold the directory of its day: what only the directory knows (its list of hosts, what it revokes) is left
    out, and the verdict says so.

    Raises:
        DecodeError: the report holds no evidence, is of another environment, or claims another outcome than its evidence has.
    """
    if report.environment != environment.name:
        raise DecodeError(
            "the report is of another environment than the pins", hint="--environment names the right ones"
        )
    evidence, exporter, spki = (
        base64.b64decode(field) for field in (report.evidence, report.exporter, report.spki)
    )
    if not (evidence and exporter and spki):
        raise DecodeError("the report holds no evidence: that session did not get so far, and sent nothing")
    connection = Connection(
        exporter=exporter,
        spki=spki,
        now=report.time,
        candidates=report.candidates,
        revocations=None,
    )
    try:
        verdict = verify_session(evidence, policy=policy, connection=connection).verdict
    except VerificationRefused as refused:
        verdict = refused.verdict
    said = {line.id for line in report.verdict if line.status == "fail"}
    found = {line.id for line in verdict.failed}
    if report.size_class and said:
        raise DecodeError("the report says that data were sent although a check had failed")
    if report.verdict and not found and said and report.outcome == "done":
        raise DecodeError("the report claims another outcome than its evidence has")
    return verdict
