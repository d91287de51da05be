"""Requests that the user has made, as they run: what comes is kept until the user closes the answer, so that a reload or a second tab shows all of it.

An event for the page is a JSON object with the kind of event in "event":

    step          name, ms, detail             something was done on the way
    attested      passed, relaxed, not_checked, simulated, checks   every check has passed; only now anything is sent
    chat, section, line, piece, line_end, dropped, notice, progress, waiting, done      as `device.answers`
    suggestion    text, parts                  parts: [text, "same" | "new" | "gone"], against the draft
    kept          report                       the report's id
    not_kept      what, hint, code             there is none, and why
    failed        what, hint, code, sent, checks     the answer ended early
    cancelled     sent                         the user did not want it any more
    end                                        nothing comes any more
"""

import asyncio
import difflib
import logging
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from typing import Any, Final, Literal

import msgspec

from sottovoce.app.words import FAULT, NOT_SENT, SENT, UNSURE, in_words
from sottovoce.attest.verdict import Status, Verdict, VerificationRefused
from sottovoce.core.errors import SottovoceError, UsageError
from sottovoce.device.answers import Line, Piece, Suggestion
from sottovoce.device.client import Attested, ClientEvent, Kept, NotKept, Step

__all__ = ["Asking", "Askings", "NoSuchAnswer", "differences"]

_LOG: Final = logging.getLogger(__name__)
Feature = Literal["summary", "rewrite"]
_AT_ONCE: Final = 4
_HELD: Final = 16
_COMPARED: Final = 400_000
"""Pairs of words at most: a draft that repeats itself takes seconds beyond that."""
_WORDS: Final = re.compile(r"\s+|\w+|[^\w\s]")


class NoSuchAnswer(UsageError):  # noqa: N818 - it says what happened
    """There is no answer with that id: it was closed, or the app was started anew."""

    code = "usage.answer"


class Asking:
    """One request and what has come of it. `chats` are the ids of the chats on the shelf that it is about; `sent` the messages that it sends, by their ids."""

    def __init__(
        self,
        feature: Feature,
        chats: tuple[str, ...],
        events: AsyncGenerator[ClientEvent, None],
        *,
        simulated: bool,
        draft: str = "",
        sent: Mapping[str, str] | None = None,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.feature = feature
        self.chats = chats
        self.draft = draft
        self.sent = sent or {}
        self.report = ""
        self.saved = False
        self._simulated = simulated
        self._said: list[dict[str, Any]] = []
        self._attested = self._answered = False
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._run(events))
        self._task.add_done_callback(self._over)

    def __repr__(self) -> str:
        return f"<Asking {self.id}>"

    @property
    def over(self) -> bool:
        """Whether nothing comes any more."""
        return self._task.done()

    def stop(self) -> asyncio.Task[None]:
        """End the session, if it still runs; gives what is done when it has ended."""
        self._task.cancel()
        return self._task

    async def cancel(self) -> None:
        """End the session, and wait until it has ended."""
        await asyncio.wait([self.stop()])

    async def events(self, since: int = 0) -> AsyncGenerator[tuple[int, dict[str, Any]], None]:
        """Numbered events from number `since` on, those that have come first; ends with the answer."""
        while True:
            changed = self._changed
            while since < len(self._said):
                yield since, self._said[since]
                since += 1
            if self._said and self._said[-1]["event"] == "end":
                return
            await changed.wait()

    def lines(self) -> list[tuple[str, list[str]]]:
        """The summary's lines so far, with the ids of the messages that they rest on."""
        lines: list[tuple[str, list[str]]] = []
        written = ""
        for said in self._said:
            match said["event"]:
                case "line":
                    lines.append((f"{said['sender']}: {said['text']}", said["messages"]))
                case "piece":
                    written += said["text"]
                case "line_end":
                    lines.append((written, said["messages"]))
                    written = ""
                case "dropped":
                    written = ""
        return lines

    def _say(self, event: str, **fields: Any) -> None:
        self._said.append({"event": event, **fields})
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _run(self, events: AsyncGenerator[ClientEvent, None]) -> None:
        try:
            async with aclosing(events) as found:
                async for event in found:
                    self._tell(event)
        except VerificationRefused as refused:
            self._fail(refused, checks=_checks(refused.verdict))
        except SottovoceError as error:
            self._fail(error, checks=[])
        except asyncio.CancelledError:
            self._say("cancelled", sent=self._sent())
        except Exception as fault:  # noqa: BLE001 - whatever it is, the page is told, and nothing of its words
            _LOG.error("a request failed: %s", type(fault).__name__)
            self._say("failed", **FAULT, sent=self._sent(), checks=[])
        self._say("end")

    def _over(self, _: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step has said nothing.
        if not self._said or self._said[-1]["event"] != "end":
            self._say("cancelled", sent=self._sent())
            self._say("end")

    def _fail(self, error: SottovoceError, *, checks: list[dict[str, str]]) -> None:
        self._say("failed", **in_words(error), sent=self._sent(), checks=checks)

    def _sent(self) -> str:
        # Between the last check and the first word nobody on this side knows how far the request has come.
        if not self._attested:
            return NOT_SENT
        return SENT if self._answered else UNSURE

    def _tell(self, event: ClientEvent) -> None:
        match event:
            case Step():
                self._say("step", name=event.name, ms=round(1000 * event.seconds, 1), detail=event.detail)
            case Attested():
                self._attested = True
                self._say("attested", simulated=self._simulated, **_verdict(event.verdict))
            case Kept():
                self.report = event.report_id
                self._say("kept", report=event.report_id)
            case NotKept():
                self._say("not_kept", **in_words(event.error))
            case Suggestion():
                self._answered = True
                self._say("suggestion", text=event.text, parts=differences(self.draft, event.text))
            case _:
                self._answered = self._answered or isinstance(event, Line | Piece)
                fields: dict[str, Any] = msgspec.to_builtins(event)
                self._say(fields.pop("event"), **fields)


class Askings:
    """The answers that the user has not closed."""

    def __init__(self) -> None:
        self._askings: dict[str, Asking] = {}

    def begin(self, make: Callable[[], Asking], chats: tuple[str, ...], feature: Feature) -> Asking:
        """Begin another request, about `chats`.

        Raises:
            UsageError: too many run already, or just this one does.
        """
        if any(
            one.chats == chats and one.feature == feature and not one.over for one in self._askings.values()
        ):
            raise UsageError("this is being asked already", hint="wait for the answer, or stop it")
        if sum(not one.over for one in self._askings.values()) >= _AT_ONCE:
            raise UsageError("other requests are still running", hint="wait for them, or stop them")
        asking = make()
        self._askings[asking.id] = asking
        for one in [one for one in self._askings.values() if one.over][: max(0, len(self._askings) - _HELD)]:
            del self._askings[one.id]
        return asking

    def get(self, asking_id: str) -> Asking:
        """The request with that id.

        Raises:
            NoSuchAnswer: there is none.
        """
        try:
            return self._askings[asking_id]
        except KeyError:
            raise NoSuchAnswer("this answer is gone", hint="ask again") from None

    def all(self) -> list[Asking]:
        """Every answer that is not closed."""
        return list(self._askings.values())

    def of(self, chat: str) -> Asking | None:
        """The newest request about just this chat."""
        found = [one for one in self._askings.values() if one.chats == (chat,)]
        return found[-1] if found else None

    def several(self) -> Asking | None:
        """The newest request about several chats at once."""
        found = [one for one in self._askings.values() if len(one.chats) > 1]
        return found[-1] if found else None

    async def close(self, asking_id: str) -> None:
        """End the request if it runs, and forget its answer. Raises as `get`."""
        asking = self.get(asking_id)
        await asking.cancel()
        self._askings.pop(asking_id, None)

    async def cancel(self, chats: Collection[str] | None = None) -> None:
        """End every request that runs, or those about one of `chats`."""
        # All of them first: what one has to put away takes time, in which another would go on.
        ending = [
            asking.stop()
            for asking in self._askings.values()
            if not asking.over and (chats is None or not set(chats).isdisjoint(asking.chats))
        ]
        if ending:
            await asyncio.wait(ending)

    async def forget(self, chat: str) -> None:
        """Close every answer about `chat`."""
        await self.cancel([chat])
        for asking in list(self._askings.values()):
            if chat in asking.chats:
                await self.close(asking.id)


def differences(draft: str, text: str) -> list[tuple[str, str]]:
    """What `text` keeps of `draft`, word by word, what is new in it, and what is gone."""
    old, new = _WORDS.findall(draft), _WORDS.findall(text)
    if len(old) * len(new) > _COMPARED:
        return [(text, "new")]
    parts: list[tuple[str, str]] = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            parts.append(("".join(new[k:m]), "same"))
            continue
        if i < j:
            parts.append(("".join(old[i:j]), "gone"))
        if k < m:
            parts.append(("".join(new[k:m]), "new"))
    return parts


def _verdict(verdict: Verdict) -> Mapping[str, Any]:
    return {
        "passed": verdict.count(Status.PASS),
        "relaxed": verdict.count(Status.RELAXED),
        "not_checked": verdict.count(Status.NOT_CHECKED),
        "checks": _checks(verdict),
    }


def _checks(verdict: Verdict) -> list[dict[str, str]]:
    return [{**check.to_json(), "gain": check.gain} for check in verdict.checks]
