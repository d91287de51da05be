"""How a verdict looks on a terminal."""

from typing import Final

from rich.console import Console
from rich.text import Text

from sottovoce.attest.verdict import Check, Status, Verdict

__all__ = ["banner", "show_conclusion", "show_verdict"]

_STYLES: Final = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.RELAXED: "yellow",
    Status.NOT_CHECKED: "yellow",
}


def banner(out: Console, *, simulated: bool) -> None:
    """Say in plain sight when the hardware is simulated."""
    if simulated:
        out.print(
            "SIMULATED HARDWARE: every check is real, but software stands in for the\n"
            "processor, so nothing is proved about a real machine.",
            style="black on yellow",
        )


def show_verdict(out: Console, verdict: Verdict) -> None:
    """One line a check, by the sections of the protocol; a line that does not fit loses its end, never a refusal's."""
    for check in verdict.checks:
        whole = check.status is Status.FAIL
        out.print(_line(check), no_wrap=not whole, overflow="fold" if whole else "ellipsis")
        if whole:
            out.print(f"              without it, an attacker could {check.risk}", style="red")


def _line(check: Check) -> Text:
    found = check.found if check.status is Status.PASS else f"{check.found} (wanted: {check.wanted})"
    status = (f"  {check.status.value:<11} ", _STYLES[check.status])
    return Text.assemble(status, (f"{check.section:<5}", "dim"), f"{check.title}: ", (found, "dim"))


def show_conclusion(out: Console, verdict: Verdict, what: str) -> None:
    """Whether it was accepted, what was counted, and what the policy had relaxed."""
    word, style = ("ACCEPTED", "bold green") if verdict.accepted else ("REFUSED", "bold red")
    counts = ", ".join(
        f"{verdict.count(status)} {status.value}" for status in Status if verdict.count(status)
    )
    out.print(Text.assemble((word, style), f"  {what}: {counts}"))
    if verdict.relaxed:
        out.print(f"  relaxed by the policy: {', '.join(verdict.relaxed)}", style="yellow")
    if verdict.accepted and verdict.count(Status.NOT_CHECKED):
        out.print("  What was not checked proves nothing: see those lines.", style="yellow")
