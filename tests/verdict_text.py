"""Whole verdicts as text, to be compared with what a test writes down: every value found and wanted, in order."""

from sottovoce.attest.verdict import Status, Verdict

__all__ = ["judged", "written"]


def judged(verdict: Verdict) -> str:
    """The lines that pass, fail or are relaxed."""
    return "\n".join(
        f"{c.status.value} | {c.id} | {c.found} | {c.wanted}"
        for c in verdict.checks
        if c.status is not Status.NOT_CHECKED
    )


def written(verdict: Verdict) -> str:
    """The lines that are not checked, with what is said instead."""
    return "\n".join(f"{c.id} | {c.found}" for c in verdict.checks if c.status is Status.NOT_CHECKED)
