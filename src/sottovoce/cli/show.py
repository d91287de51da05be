"""How steps, verdicts and answers look on a terminal."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sottovoce.attest.verdict import Status, Verdict, VerificationRefused
from sottovoce.cli.verdicts import banner, show_verdict
from sottovoce.device.answers import (
    AnswerEvent,
    ChatStart,
    Done,
    Dropped,
    Line,
    LineEnd,
    Notice,
    Piece,
    Section,
    Suggestion,
    Waiting,
)
from sottovoce.device.client import Attested, Client, ClientEvent, Kept, NotKept, Step
from sottovoce.device.sight import PARTIES

__all__ = ["AnswerView", "banner", "console", "run", "show_step", "show_who"]


def console() -> Console:
    """The terminal; plain text where it is none."""
    return Console(highlight=False, soft_wrap=False)


def show_step(out: Console, step: Step) -> None:
    """One step of a request: what was done, how long it took, what came of it."""
    out.print(f"  [bold]{escape(step.name):<14}[/] {1000 * step.seconds:8.1f} ms  {escape(step.detail)}")


def show_who(out: Console) -> None:
    """Who could see what of the session."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for heading in ("who", "could see", "could not see"):
        table.add_column(heading, overflow="fold")
    for party in PARTIES:
        table.add_row(*party)
    out.print(table)


async def run(
    out: Console,
    client: Client,
    ask: Callable[[Client], AsyncGenerator[ClientEvent, None]],
    *,
    verbose: bool,
    began: float | None = None,
    titles: Sequence[str] = (),
) -> str:
    """Ask, and print what comes; returns the id of the report. `verbose` prints every step and every check.

    `titles` are those of the chats, if there are several. `began` is when the command began, by `time.perf_counter`; the time to the answer's first line is then printed too.

    Raises:
        SottovoceError: as the client; a refusal's verdict has been printed then.
    """
    view, steps, report = AnswerView(out, titles), [], ""
    try:
        async with client, aclosing(ask(client)) as events:
            async for event in events:
                match event:
                    case Step():
                        steps.append(event)
                        if verbose and not view.began:
                            show_step(out, event)
                    case Attested():
                        _show_attested(out, client, event.verdict, verbose=verbose)
                    case Kept():
                        report = event.report_id
                    case NotKept():
                        out.print(f"  {event.error}", style="red")
                    case _:
                        if began is not None and not view.began:
                            out.print(
                                f"  first line of the answer {time.perf_counter() - began:.1f} s after the command"
                            )
                        view.show(event)
    except VerificationRefused as refused:
        show_verdict(out, refused.verdict)
        raise
    if verbose and steps:
        show_step(out, steps[-1])
    out.print(f"  report {report[:8]}: `sottovoce report show {report[:8]}`", style="dim")
    return report


def _show_attested(out: Console, client: Client, verdict: Verdict, *, verbose: bool) -> None:
    banner(out, simulated=client.environment.simulated)
    if verbose:
        show_verdict(out, verdict)
        return
    relaxed = verdict.count(Status.RELAXED)
    notes = f", {relaxed} relaxed by this environment" if relaxed else ""
    out.print(f"  verified: {verdict.count(Status.PASS)} checks passed{notes}; sending now", style="dim")


class AnswerView:
    """Prints an answer as it comes. `titles` are those of the chats that it is about."""

    def __init__(self, out: Console, titles: Sequence[str] = ()) -> None:
        self._out = out
        self._titles = titles
        self.began = False
        self._suggestions = 0
        self._in_piece = False

    def _end_piece(self) -> None:
        if self._in_piece:
            self._out.print()
        self._in_piece = False

    def show(self, event: AnswerEvent) -> None:
        """Print one event."""
        self.began = True
        match event:
            case Piece():
                if not self._in_piece:
                    self._out.print(Text(f"  {self._about(event)}: "), style="bold", end="")
                self._in_piece = True
                self._out.print(Text(event.text), end="")
            case LineEnd():
                self._in_piece = False
                self._out.print(_cited(event.messages))
            case Dropped():
                self._end_piece()
                self._out.print(f"  (the guard held back one {event.kind}: {event.reason})", style="dim")
            case Suggestion():
                self._suggestions += 1
                self._out.print(Text.assemble((f"  {self._suggestions}. ", "bold"), event.text))
            case _:
                self._show_rest(event)

    def _show_rest(self, event: AnswerEvent) -> None:
        match event:
            case ChatStart():
                self._out.print(Text(f"  {self._title(event.chat)}"), style="bold underline")
            case Section():
                between = f"{event.first} to {event.last}"
                self._out.print(
                    f"  part {event.section + 1}: {event.count} messages, {between}", style="bold dim"
                )
            case Line():
                mark = ("  for you: " if event.for_reader else "  • ", "bold" if event.for_reader else "")
                said = (event.sender, "bold"), ": ", event.text
                self._out.print(Text.assemble(mark, *said, _cited(event.messages)))
            case Notice():
                self._out.print(
                    "  (nothing by the model here: it does not write this language well enough)",
                    style="dim",
                )
            case Waiting():
                self._out.print(f"  (waiting for the model, at place {event.place})", style="dim")
            case Done():
                self._out.print(f"  {event.method}; model: {event.model}", style="dim")

    def _title(self, chat: int) -> str:
        return self._titles[chat] if chat < len(self._titles) else f"chat {chat + 1}"

    def _about(self, piece: Piece) -> str:
        what = "In short" if piece.section is None else f"Part {piece.section + 1}"
        return f"{self._title(piece.chat)}, {what.lower()}" if len(self._titles) > 1 else what


def _cited(messages: list[str]) -> Text:
    return Text("  [" + ", ".join(messages) + "]" if messages else "", style="dim")
