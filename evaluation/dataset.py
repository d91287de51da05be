"""The evaluation set: chats with what a summary of them must and must not say, drafts, and attacks. The form is in evaluation/README.md."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from evaluation.matching import has, says

__all__ = [
    "ATTACK_KINDS",
    "DATA",
    "LANGUAGES",
    "STYLES",
    "Attack",
    "Chat",
    "DataError",
    "Draft",
    "Fact",
    "Line",
    "Wrong",
    "load_attacks",
    "load_chats",
    "load_drafts",
    "load_judged",
    "parse_lines",
]

DATA: Final = Path(__file__).parent / "data"
LANGUAGES: Final = ("en", "es", "pt", "hi", "id", "de", "fr", "mixed")
STYLES: Final = ("rephrase", "professional", "funny", "supportive", "proofread", "shorten")
ATTACK_KINDS: Final = (
    "message",
    "name",
    "forwarded",
    "split",
    "language",
    "encoded",
    "transcript",
    "link",
    "promotion",
    "urgency",
)
_DAY: Final = re.compile(r"== (\d{4}-\d\d-\d\d)")
_LINE: Final = re.compile(r"(\d\d:\d\d) ([^:{]+?)(?: \{([a-z0-9 ]+)\})?: (.*)")
_NAME: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class DataError(ValueError):
    """A file of the set is not of its form."""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Fact(_Strict, frozen=True, kw_only=True):
    """What a summary must hold. `weight` 2 is what nobody may miss, 1 what a good summary has too."""

    text: str
    says: list[str]
    kind: Literal["decision", "date", "task", "question", "request", "news"]
    who: str = ""
    """Who does or says it: the summary must name this person with it."""
    weight: Literal[1, 2] = 1


class Wrong(_Strict, frozen=True, kw_only=True):
    """What a summary must not say."""

    text: str
    says: list[str]
    unless: list[str] = []
    """Words that make it right: the line tells that it was dropped, moved, a joke."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A message; `tags` name the facts that it tells."""

    id: str
    time: str
    sender: str
    text: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A chat with what its summary is measured by."""

    name: str
    language: str
    kind: str
    reader: str
    lines: tuple[Line, ...]
    facts: Mapping[str, Fact]
    wrong: Mapping[str, Wrong]

    def support(self, fact: str) -> tuple[Line, ...]:
        """The messages that tell `fact`."""
        return tuple(line for line in self.lines if fact in line.tags)


class Draft(_Strict, frozen=True, kw_only=True):
    """A draft, and what each suggestion for it must keep."""

    id: str
    language: str
    style: Literal["rephrase", "professional", "funny", "supportive", "proofread", "shorten"]
    text: str
    keep: list[str] = []
    """Groups of alternatives: each must be found."""
    never: list[str] = []
    """Groups of alternatives, none of which may be found: another meaning, a flipped person, an invented fact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """Messages that somebody puts into a chat, and what would be a success."""

    id: str
    kind: str
    language: str
    goal: str
    carrier: Chat
    lines: tuple[Line, ...]
    """The carrier's messages with those of the attack among them."""
    hostile: frozenset[str]
    """The ids of the attack's messages."""
    wins: tuple[tuple[str, ...], ...]
    """The attack succeeds when one line of the answer that is no quote of the attack, named as such, says all of one of these."""
    shown: tuple[tuple[str, ...], ...]
    """As `wins`, and a quote counts too: a link, the prompt's words."""
    hides: tuple[str, ...]
    """Facts of the carrier that are to be left out."""


class _ChatFile(_Strict, frozen=True, kw_only=True):
    language: str
    kind: str
    chat: str
    reader: str = ""
    facts: dict[str, Fact] = {}
    wrong: dict[str, Wrong] = {}


class _Headline(_Strict, frozen=True, kw_only=True):
    chat: str
    text: str
    supported: bool
    why: str = ""


class _Headlines(_Strict, frozen=True, kw_only=True):
    headlines: list[_Headline]


class _Drafts(_Strict, frozen=True, kw_only=True):
    drafts: list[Draft]


class _Attack(_Strict, frozen=True, kw_only=True):
    id: str
    kind: str
    goal: str
    carrier: str
    after: int
    messages: str
    language: str = "en"
    wins: list[list[str]] = []
    shown: list[list[str]] = []
    hides: list[str] = []


class _Attacks(_Strict, frozen=True, kw_only=True):
    attacks: list[_Attack]


def _toml(path: Path, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), type=kind)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: {error}") from None


def parse_lines(text: str, *, prefix: str = "m", date: str = "") -> tuple[Line, ...]:
    """The messages of a chat as the set writes them.

    Raises:
        DataError: a line that is neither a day nor a message, or a message before the first day.
    """
    found: list[Line] = []
    for number, written in enumerate(text.strip("\n").split("\n"), 1):
        if match := _DAY.fullmatch(written):
            date = match[1]
            continue
        match = _LINE.fullmatch(written)
        if match is None or not date:
            raise DataError(f"line {number} is neither a day nor a message: {written[:60]!r}")
        time, sender, tags, said = match.groups()
        found.append(
            Line(
                id=f"{prefix}{len(found) + 1}",
                time=f"{date} {time}",
                sender=sender,
                text=said.replace("\\n", "\n"),
                tags=tuple((tags or "").split()),
            )
        )
    return tuple(found)


def load_chat(path: Path) -> Chat:
    """The chat in `path`.

    Raises:
        DataError: not of the form, or a fact that none of its messages tells.
    """
    file: _ChatFile = _toml(path, _ChatFile)
    try:
        chat = Chat(
            name=path.stem,
            language=file.language,
            kind=file.kind,
            reader=file.reader,
            lines=parse_lines(file.chat),
            facts=file.facts,
            wrong=file.wrong,
        )
        _check_chat(chat)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from None
    return chat


def _check_chat(chat: Chat) -> None:
    senders = {line.sender for line in chat.lines}
    if chat.language not in LANGUAGES or not _NAME.fullmatch(chat.name):
        raise DataError(f"not a language or a name of the set: {chat.language}, {chat.name}")
    if chat.reader and chat.reader not in senders:
        raise DataError(f"the reader {chat.reader} says nothing")
    unknown = {tag for line in chat.lines for tag in line.tags} - set(chat.facts)
    if unknown:
        raise DataError(f"tags without a fact: {', '.join(sorted(unknown))}")
    for name, fact in chat.facts.items():
        _check_fact(name, fact, chat.support(name), senders)
    for name, wrong in chat.wrong.items():
        called = [fact.text for fact in chat.facts.values() if says(fact.text, wrong.says, wrong.unless)]
        if called or not wrong.says:
            raise DataError(f"{name} says nothing, or would call these facts wrong: {called}")


def _check_fact(name: str, fact: Fact, support: tuple[Line, ...], senders: set[str]) -> None:
    # With its sender's name, as a quote shows it.
    told = "\n".join(f"{line.sender}: {line.text}" for line in support)
    if not support or not fact.says or not says(told, fact.says):
        missing = [group for group in fact.says if not has(told, group)]
        raise DataError(f"the messages tagged {name} do not say it: {missing}")
    if fact.who and fact.who not in senders and not has(told, fact.who):
        raise DataError(f"{name}: nobody is called {fact.who}")


def load_chats(folder: Path = DATA / "chats" / "test") -> list[Chat]:
    """The chats of a folder, by name; raises as `load_chat`."""
    return [load_chat(path) for path in sorted(folder.glob("*.toml"))]


def load_drafts(folder: Path = DATA / "drafts") -> list[Draft]:
    """All drafts, by id.

    Raises:
        DataError: not of the form, an id twice, or a draft that lacks what its suggestions must keep.
    """
    found: dict[str, Draft] = {}
    for path in sorted(folder.glob("*.toml")):
        for draft in _toml(path, _Drafts).drafts:
            if draft.id in found or draft.language not in LANGUAGES:
                raise DataError(
                    f"{path.name}: {draft.id}: the id is there already, or the language is none of the set"
                )
            if not says(draft.text, draft.keep, draft.never):
                raise DataError(f"{path.name}: {draft.id}: the draft itself does not keep what it must")
            found[draft.id] = draft
    return [found[name] for name in sorted(found)]


def load_judged(path: Path = DATA / "headlines.toml") -> dict[tuple[str, str], bool]:
    """By chat and text of a headline: whether the messages that it cites support it, as a reader judged.

    Raises:
        DataError: not of the form, or one that is judged twice.
    """
    written = _toml(path, _Headlines).headlines
    found = {(one.chat, one.text): one.supported for one in written}
    if len(found) != len(written):
        raise DataError(f"{path.name}: a headline is there twice")
    return found


def load_attacks(folder: Path = DATA / "attacks") -> list[Attack]:
    """All attacks, by id; the chats that they are put into are in `carriers/`.

    Raises:
        DataError: not of the form, an id twice, a fact that the carrier does not have, a success that the carrier itself is.
    """
    carriers = {chat.name: chat for chat in load_chats(folder / "carriers")}
    found: dict[str, Attack] = {}
    for path in sorted(folder.glob("*.toml")):
        for written in _toml(path, _Attacks).attacks:
            try:
                attack = _attack(written, carriers)
            except DataError as error:
                raise DataError(f"{path.name}: {written.id}: {error}") from None
            if attack.id in found:
                raise DataError(f"{path.name}: {attack.id} is there already")
            found[attack.id] = attack
    return [found[name] for name in sorted(found)]


def _attack(written: _Attack, carriers: Mapping[str, Chat]) -> Attack:
    carrier = carriers.get(written.carrier)
    if carrier is None or written.kind not in ATTACK_KINDS:
        raise DataError("no such carrier, or no such kind")
    if not 0 < written.after <= len(carrier.lines):
        raise DataError("`after` is not the number of a message")
    if not (written.wins or written.shown or written.hides) or not set(written.hides) <= set(carrier.facts):
        raise DataError("nothing would be a success, or a fact is not the carrier's")
    date = carrier.lines[written.after - 1].time.partition(" ")[0]
    hostile = parse_lines(written.messages, prefix="x", date=date)
    for groups in (*written.wins, *written.shown):
        if not groups or any(says(f"{line.sender}: {line.text}", groups) for line in carrier.lines):
            raise DataError(f"a line of the carrier alone would be a success: {groups}")
    return Attack(
        id=written.id,
        kind=written.kind,
        language=written.language,
        goal=written.goal,
        carrier=carrier,
        lines=(*carrier.lines[: written.after], *hostile, *carrier.lines[written.after :]),
        hostile=frozenset(line.id for line in hostile),
        wins=tuple(map(tuple, written.wins)),
        shown=tuple(map(tuple, written.shown)),
        hides=tuple(written.hides),
    )
