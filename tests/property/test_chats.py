"""Any bytes give a chat or a typed error; what is written in any known form is read back as it was."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from sottovoce.device.chats import ChatError, chat_id, import_chat, unread
from sottovoce.device.chats.formats import find_shape

FIRST = datetime(2026, 11, 20, 18, 3, 22)  # noqa: DTZ001 - exports name no zone; the 20th decides the order


@dataclass(frozen=True, kw_only=True)
class Form:
    bracket: bool
    time_first: bool
    order: str
    separator: str
    year_digits: int
    padded: bool
    period: tuple[str, str] | None
    period_space: str
    seconds: bool
    colon: str
    comma: str
    mark: str
    end: str
    encoding: str

    def date(self, when: datetime) -> str:
        pad = "02d" if self.padded else "d"
        year = str(when.year)[-self.year_digits :]
        parts = {"d": format(when.day, pad), "m": format(when.month, pad), "y": year}
        return self.separator.join(parts[part] for part in self.order)

    def time(self, when: datetime) -> str:
        hour = when.hour if self.period is None else when.hour % 12 or 12
        text = self.colon.join([format(hour, "02d" if self.padded else "d"), format(when.minute, "02d")])
        if self.seconds:
            text += f"{self.colon}{when.second:02d}"
        return text if self.period is None else text + self.period_space + self.period[when.hour >= 12]

    def head(self, when: datetime) -> str:
        parts = [self.date(when), self.time(when)]
        stamp = f"{self.comma} ".join(reversed(parts) if self.time_first else parts)
        return f"{self.mark}[{stamp}] " if self.bracket else f"{self.mark}{stamp} - "

    def render(self, messages: list[tuple[datetime, str, str]]) -> bytes:
        text = "\n".join(f"{self.head(when)}{sender}: {text}" for when, sender, text in messages)
        return text.replace("\n", self.end).encode(self.encoding)

    def written(self, when: datetime) -> datetime:
        return when if self.seconds else when.replace(second=0)


FORMS = st.builds(
    Form,
    bracket=st.booleans(),
    time_first=st.booleans(),
    order=st.sampled_from(["dmy", "mdy", "ymd"]),
    separator=st.sampled_from(["/", "-", "."]),
    year_digits=st.sampled_from([2, 4]),
    padded=st.booleans(),
    period=st.sampled_from(
        [None, ("AM", "PM"), ("am", "pm"), ("a.m.", "p.m."), ("a. m.", "p. m."), ("a.\u00a0m.", "p.\u00a0m.")]
    ),
    period_space=st.sampled_from([" ", "\u202f", "\u00a0", ""]),
    seconds=st.booleans(),
    colon=st.sampled_from([":", "."]),
    comma=st.sampled_from([",", ""]),
    mark=st.sampled_from(["", "\u200e", "\u200f", "\u2068"]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
).filter(
    # No locale writes the first two; "26/11/20" is read as day-first unless the file shows otherwise.
    lambda form: (
        not (form.order == "mdy" and form.separator == ".")
        and not (form.order == "ymd" and form.year_digits == 2)
        # "18.03.20.11.2026" is nobody's form.
        and not (form.time_first and form.colon == ".")
    )
)

LETTERS = "abz ÄßéñçİıЖ字अ🙂👩\u200d🚀+-,.!?()'\"/~12"
SENDERS = st.text(LETTERS, min_size=1, max_size=20).map(lambda name: "S" + " ".join(name.split()) + "s")
LINES = st.text(LETTERS + ":;<>[]", max_size=40).map(str.strip).filter(lambda line: find_shape(line) is None)
TEXTS = st.lists(LINES, min_size=0, max_size=3).map(lambda lines: "\n".join(["I say", *lines, "so."]))
MESSAGES = st.lists(st.tuples(st.integers(0, 10**7), SENDERS, TEXTS), max_size=12)


@given(FORMS, MESSAGES)
def test_what_is_written_is_read_back(form: Form, drawn: list[tuple[int, str, str]]) -> None:
    messages = [(FIRST, "First", "hi")]
    for seconds, sender, text in drawn:
        messages.append((messages[-1][0] + timedelta(seconds=seconds), sender, text))
    chat = import_chat(form.render(messages), name="x.txt")
    assert [(m.time, m.sender, m.text, m.kind) for m in chat.messages] == [
        (form.written(when), sender, text, "text") for when, sender, text in messages
    ]
    assert chat.unparsed == ()
    assert [message.id for message in chat.messages] == [str(n) for n in range(1, len(messages) + 1)]


def check(data: bytes, name: str = "x.txt") -> None:
    try:
        chat = import_chat(data, name=name)
    except ChatError:
        return
    assert chat.messages
    lines = [message.line for message in chat.messages]
    assert lines == sorted(set(lines))
    assert not set(lines) & set(chat.unparsed)
    assert len(chat_id(chat.title, chat.messages)) == 65
    assert all(message.kind != "system" for message in unread(chat, 3))
    for message in chat.messages:
        message.text.encode()  # no lone surrogate


@given(st.binary(max_size=300), st.text(max_size=30))
@example(b"PK\x03\x04", "x.zip")
@example(b"PK\x05\x06" + bytes(18), "\udc80")
def test_any_bytes(data: bytes, name: str) -> None:
    check(data, name)


@given(st.text(max_size=300))
@example("20/11/2026, 6:03 dı mattina - a: b")
def test_any_text_after_a_first_line(text: str) -> None:
    data = text.encode("utf-8", "replace")
    check(b"20/11/2026, 18:03 - Anna: " + data)
    check(b"\xe2\x80\x8e[20/11/2026, 6:03:00 PM] " + data)
    check(data)


FRAGMENTS = st.sampled_from(
    (
        *(
            "20/11/2026",
            "13/13/26",
            "6:03",
            "25:61",
            " PM",
            "\u202fa. m.",
            ", ",
            " - ",
            "[",
            "]",
            "Anna",
            ": ",
            ":",
        ),
        *(
            "\u200e",
            "\n",
            "\r\n",
            "\x00",
            "\ufeff",
            "“",
            ">",
            "x",
            "left",
            "POLL:",
            "location: ",
            "image omitted",
        ),
        *(
            "<Media omitted>",
            "This message was deleted",
            "(file attached)",
            "<attached: ",
            "changed the subject",
        ),
        "https://maps.google.com/?q=",
    )
)


@given(st.lists(FRAGMENTS, max_size=40).map("".join))
def test_anything_made_of_what_exports_are_made_of(text: str) -> None:
    check(text.encode())


def lines_of(chat_text: str) -> int:
    return len([line for line in chat_text.split("\n") if line.strip()])


@given(
    st.lists(st.text(LETTERS, max_size=20), max_size=5), st.lists(st.text(LETTERS, max_size=20), max_size=5)
)
def test_no_line_gets_lost(before: list[str], after: list[str]) -> None:
    """Every line that is not blank is in a message or is named as not understood."""
    before, after = ([line for line in part if find_shape(line) is None] for part in (before, after))
    lines = [*before, "20/11/2026, 18:03 - Anna: x", *after, "31/02/2026, 18:03 - Anna: y", "z"]
    chat = import_chat("\n".join(lines).encode(), name="x.txt")
    kept = sum(lines_of(message.text) for message in chat.messages)
    assert kept + len(chat.unparsed) == lines_of("\n".join(lines))
