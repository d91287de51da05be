"""The service's answers: one JSON object a line, each of a known form."""

from typing import Final

import msgspec

from sottovoce.core.errors import DecodeError, LimitError, SottovoceError
from sottovoce.core.limits import LIMITS

__all__ = [
    "AnswerDecoder",
    "AnswerEvent",
    "ChatStart",
    "Done",
    "Dropped",
    "Failed",
    "Line",
    "LineEnd",
    "Notice",
    "Piece",
    "Progress",
    "Section",
    "ServiceError",
    "Suggestion",
    "Waiting",
]


class ServiceError(SottovoceError):
    """The service could not answer, and said so. What was sent is gone with the session."""

    code = "service"


class _Event(msgspec.Struct, frozen=True, tag_field="event", forbid_unknown_fields=True):
    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class ChatStart(_Event, frozen=True, tag="chat"):
    """What follows is about chat number `chat` of several."""

    chat: int


class Section(_Event, frozen=True, tag="section"):
    """A part of a long chat, with its quotes behind it: `count` messages from `first` to `last`."""

    section: int
    first: str
    last: str
    count: int
    chat: int = 0


class Line(_Event, frozen=True, tag="line"):
    """A whole line of a summary: a verbatim quote. `kind` is what it does, `for_reader` that it asks the reader for something."""

    kind: str
    sender: str
    text: str
    messages: list[str]
    for_reader: bool = False
    chat: int = 0
    section: int | None = None


class Piece(_Event, frozen=True, tag="piece"):
    """The next words of a line that is still being written: about a section, or a whole chat."""

    kind: str
    text: str
    chat: int = 0
    section: int | None = None


class LineEnd(_Event, frozen=True, tag="line_end"):
    """A line that came in pieces is complete; it rests on `messages`."""

    kind: str
    messages: list[str]
    chat: int = 0
    section: int | None = None


class Dropped(_Event, frozen=True, tag="dropped"):
    """The guard held something back."""

    kind: str
    reason: str
    chat: int = 0
    section: int | None = None


class Notice(_Event, frozen=True, tag="notice"):
    """Something is not done: where `about` is "language", no headline and no suggestion, as the model does not write it well enough."""

    about: str
    chat: int = 0


class Progress(_Event, frozen=True, tag="progress"):
    """So many headlines of so many have been tried."""

    done: int
    of: int


class Suggestion(_Event, frozen=True, tag="suggestion"):
    """Another wording of the draft."""

    text: str


class Waiting(_Event, frozen=True, tag="waiting"):
    """Others are before this session; `place` 1 is next."""

    place: int


class Done(_Event, frozen=True, tag="done"):
    """The answer is complete."""

    method: str
    model: str


class Failed(_Event, frozen=True, tag="error"):
    """The answer ended early."""

    code: str


AnswerEvent = (
    ChatStart
    | Section
    | Line
    | Piece
    | LineEnd
    | Dropped
    | Notice
    | Progress
    | Suggestion
    | Waiting
    | Done
    | Failed
)
_DECODER: Final = msgspec.json.Decoder(AnswerEvent)


class AnswerDecoder:
    """Bytes in, events out; an answer without its last line is an error, never a short answer."""

    def __init__(self) -> None:
        self._rest = b""
        self._done = False

    def feed(self, data: bytes) -> list[AnswerEvent]:
        """The events that are complete with `data`.

        Raises:
            DecodeError: a line of another form, or anything after the last one.
            LimitError: a line longer than an answer may be.
            ServiceError: the service says that it failed.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LIMITS.answer:
            raise LimitError("a line of the answer is longer than an answer may be")
        return [self._decode(line) for line in lines]

    def finish(self) -> None:
        """Say that no more bytes come.

        Raises:
            DecodeError: the answer was not complete.
        """
        if self._rest or not self._done:
            raise DecodeError("the answer ended before it was complete")

    def _decode(self, line: bytes) -> AnswerEvent:
        if self._done:
            raise DecodeError("the answer goes on after its end")
        try:
            event: AnswerEvent = _DECODER.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise DecodeError("a line of the answer has an unknown form") from None
        if isinstance(event, Failed):
            raise ServiceError("the service could not answer", hint="nothing is kept; try again")
        self._done = isinstance(event, Done)
        return event
