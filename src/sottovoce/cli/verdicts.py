"""How a verdict looks on a terminal."""

from typing import Final

from rich.console import Console
from rich.text import Text

from sottovoce.attest.verdict import Check, Status, Verdict, printable

__all__ = ["VerdictConsole", "banner", "show_conclusion", "show_verdict"]

_STYLES: Final = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.RELAXED: "yellow",
    Status.NOT_CHECKED: "yellow",
}


class VerdictConsole(Console):
    """A console that leaves it to its user what a closed pipe means: rich would end the program as if it had been refused."""

    def on_broken_pipe(self) -> None:
        """Raise.

        Raises:
            BrokenPipeError: always.
        """
        raise BrokenPipeError


def banner(out: Console, *, simulated: bool) -> None:
    """Say in plain sight when the hardware is simulated."""
    if simulated:
        out.print(
            "SIMULATED HARDWARE: every check is real, but software stands in for the\n"
            "processor, so nothing is proved about a real machine.",
            style="black on yellow",
        )


def show_verdict(out: Console, verdict: Verdict) -> None:
    """One line a check, by the sections of the protocol, and what an attacker could gain where one does not hold.

    On a terminal, a line that holds or was not checked is short, and loses its end where it does not fit. Everywhere else, and where a
    check does not hold, it is whole: what was found, what is wanted, where the rule comes from, the check's id.
    """
    for check in verdict.checks:
        if not out.is_terminal:
            out.print(_line(check, whole=True), soft_wrap=True)
        elif check.gain:
            out.print(_line(check, whole=True), overflow="fold")
        else:
            out.print(_line(check, whole=False), no_wrap=True, overflow="ellipsis")
        if check.gain:
            gain = Text(f"              {check.gain}", style=_STYLES[check.status])
            out.print(gain, soft_wrap=not out.is_terminal)


def _line(check: Check, *, whole: bool) -> Text:
    status = (f"  {check.status.value:<11} ", _STYLES[check.status])
    title = f"{check.rule.title}: "
    rest = check.text.removeprefix(title) if whole else printable(check.found)
    return Text.assemble(status, (f"{check.rule.section:<5}", "dim"), title, (rest, "dim"))


def show_conclusion(out: Console, verdict: Verdict, what: str) -> None:
    """Whether it was accepted, what was counted, and what the policy had relaxed."""
    word, style = ("ACCEPTED", "bold green") if verdict.accepted else ("REFUSED", "bold red")
    counts = ", ".join(
        f"{verdict.count(status)} {status.value}" for status in Status if verdict.count(status)
    )
    notes = []
    if verdict.relaxed:
        notes.append(f"  relaxed by the policy: {', '.join(verdict.relaxed)}")
    if verdict.accepted and verdict.count(Status.NOT_CHECKED):
        notes.append("  What was not checked proves nothing: see those lines.")
    whole = not out.is_terminal
    out.print(Text.assemble((word, style), printable(f"  {what}: {counts}")), soft_wrap=whole)
    for note in notes:
        out.print(Text(note, style="yellow"), soft_wrap=whole)
