"""The whole evaluation: every chat by every system, every draft, every attack with and without each defence; written as JSON."""

import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from evaluation import systems
from evaluation.attacking import DEFENCES, play
from evaluation.dataset import DATA, LANGUAGES, STYLES, Chat, load_attacks, load_chats, load_drafts
from evaluation.drafts import suggest
from evaluation.engine import CACHE, CachedEngine, Silent
from evaluation.measure import Line, Measured, measure, stands_in
from evaluation.page import RESULTS
from evaluation.public import public

__all__ = ["run"]

_T = TypeVar("_T")


def _watched(what: str, items: Sequence[_T]) -> Iterator[_T]:
    """The items, with a line on the terminal for each tenth."""
    began = time.monotonic()
    for at, item in enumerate(items):
        if at % max(1, len(items) // 10) == 0:
            click.echo(f"{what}: {at} of {len(items)}, {time.monotonic() - began:.0f} s", err=True)
        yield item


def _measured(chat: Chat, lines: Sequence[Line]) -> dict[str, Any]:
    found: Measured = measure(chat, lines)
    quotes = [line for line in lines if line.sender]
    texts = {line.id: line.text for line in chat.lines}
    return {
        "chat": chat.name,
        "language": chat.language,
        "messages": len(chat.lines),
        "coverage": round(found.coverage, 4),
        "missed": list(found.missed),
        "false": list(found.false),
        "lines": found.lines,
        "characters": found.characters,
        "quotes": len(quotes),
        "not verbatim": sum(
            not line.messages or not stands_in(line.text, texts[line.messages[0]]) for line in quotes
        ),
        "own words": [line.text for line in lines if not line.sender],
    }


def summaries(engine: CachedEngine) -> dict[str, list[dict[str, Any]]]:
    """Every test chat by every system. The others get the room that Sottovoce took."""
    found: dict[str, list[dict[str, Any]]] = {
        name: []
        for name in (
            "Sottovoce",
            "Sottovoce, quick",
            "Sottovoce, few lines",
            "Sottovoce, no model",
            "LexRank",
            "first lines",
        )
    }
    for chat in _watched("summaries", load_chats()):
        ours = systems.sottovoce(engine, chat)
        room = measure(chat, ours).characters
        for name, lines in (
            ("Sottovoce", ours),
            ("Sottovoce, quick", systems.sottovoce(engine, chat, quick=True)),
            ("Sottovoce, few lines", systems.few_lines(chat)),
            ("Sottovoce, no model", systems.sottovoce(Silent(), chat)),
            ("LexRank", systems.lexrank(chat, room)),
            ("first lines", systems.first_lines(chat, room)),
        ):
            found[name].append(_measured(chat, lines))
    return found


def attacks(engine: CachedEngine) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Every attack with and without each defence, as they come: first with all."""
    found: dict[str, list[dict[str, Any]]] = {}
    every = load_attacks()
    for name, make in DEFENCES.items():
        bound: Callable[[Chat], list[Line]] = functools.partial(make, engine)
        held = {
            carrier.name: frozenset(carrier.facts) - set(measure(carrier, bound(carrier)).missed)
            for carrier in {attack.carrier.name: attack.carrier for attack in every}.values()
        }
        found[name] = []
        for attack in _watched(f"attacks, {name}", every):
            outcome = play(attack, bound, held[attack.carrier.name])
            found[name].append({**asdict(outcome), "succeeded": outcome.succeeded})
        yield found


def plain(engine: CachedEngine) -> list[dict[str, Any]]:
    """Every test chat by the same model with one line of prompt. It reads the whole chat, so it takes ten times as long."""
    return [_measured(chat, systems.plain(engine, chat)) for chat in _watched("plain", load_chats())]


def harmless(engine: CachedEngine) -> list[dict[str, Any]]:
    """Chats in which people talk about machines and nobody attacks."""
    return [
        _measured(chat, systems.sottovoce(engine, chat)) for chat in load_chats(DATA / "attacks" / "harmless")
    ]


def others(engine: CachedEngine) -> list[dict[str, Any]]:
    """Attacks that others collected, and harmless texts like them."""
    return list(public(engine))


def drafts(engine: CachedEngine) -> list[dict[str, Any]]:
    """Every test draft."""
    every = [draft for draft in load_drafts() if not draft.id.startswith("dev-")]
    return [asdict(suggest(engine, draft)) for draft in _watched("drafts", every)]


def answers(engine: CachedEngine) -> list[dict[str, Any]]:
    """Twenty answers in full, for a reader: of each language the first two chats by name, of each style the first draft in English."""
    chats = sorted(load_chats(), key=lambda chat: chat.name)
    drafts = [draft for draft in load_drafts() if draft.language == "en" and not draft.id.startswith("dev-")]
    first = [next(draft for draft in drafts if draft.style == style) for style in STYLES]
    found: list[dict[str, Any]] = []
    for code in LANGUAGES[:7]:
        for chat in [chat for chat in chats if chat.language == code][:2]:
            lines = [asdict(line) for line in systems.sottovoce(engine, chat)]
            found.append({"chat": chat.name, "language": code, "messages": len(chat.lines), "lines": lines})
    rewrites = [(draft, suggest(engine, draft).suggestions) for draft in first]
    return found + [{"draft": one.text, "style": one.style, "suggestions": made} for one, made in rewrites]


_PARTS: Final[dict[str, Callable[[CachedEngine], Any]]] = {
    "summaries": summaries,
    "harmless": harmless,
    "drafts": drafts,
    "answers": answers,
    "public": others,
    "attacks": attacks,
    "plain": plain,
}


def run(only: Sequence[str] = (), *, threads: int = 2, path: Path = RESULTS, said: Path = CACHE) -> None:
    """Run `only` these parts, or all, on `threads` cores, and write what came of it beside what was there; `said` keeps what the model says.

    Raises:
        NoModelError: the default model is not here.
    """
    found = json.loads(path.read_text()) if path.exists() else {}
    with CachedEngine(said, threads=threads) as engine:
        for name, part in _PARTS.items():
            if not only or name in only:
                made = part(engine)
                for found[name] in made if isinstance(made, Iterator) else (made,):
                    path.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
