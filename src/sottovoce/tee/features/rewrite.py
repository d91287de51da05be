"""Writing help: a draft in another style, by the model; and what careful rules alone can do.

The model gets the draft with chat spelling corrected: a small model then guesses less. What it writes is checked in `checks`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from sottovoce.tee.engines import Prompt
from sottovoce.tee.engines.grammar import LineGrammar
from sottovoce.tee.features.injection import addresses_machine
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.spelling import correct, is_english, spell_out, trim
from sottovoce.tee.features.text import clean, joined, one_line, shorten, spelled_numbers

__all__ = [
    "ATTEMPTS",
    "CONTEXT",
    "PROMPT",
    "STYLES",
    "SUGGESTIONS",
    "by_rules",
    "grammar",
    "max_tokens",
    "request",
    "tidy",
]

SUGGESTIONS: Final = 3
ATTEMPTS: Final = 6
"""The model's tries for three suggestions; fewer suggestions are better than a bad one."""

CONTEXT: Final = 6
"""Messages before the draft that the model is shown, at most, where the user has them sent."""
_LINE, _NAME = 160, 40
"""Characters of each, and of its sender's name: they are there for the tone."""

STYLES: Final[Mapping[str, tuple[str, ...]]] = {
    "professional": ("professional", "professional and polite", "professional, short", "formal", "polite"),
    "rephrase": (
        "in other words",
        "in simpler words",
        "in other words, same order",
        "more fluent",
        "friendlier",
    ),
    "proofread": ("correct spelling and grammar only", "correct mistakes, change nothing else"),
    "supportive": ("warm and kind", "warm and understanding", "gentle", "caring", "friendly"),
    "funny": ("light-hearted", "playful", "with a wink", "a little joke", "cheerful"),
    "shorten": ("as short as possible", "shorter", "brief", "in few words", "only what matters"),
}
"""How the model is asked for each style, once in each of these words."""

PROMPT: Final = Prompt(
    system=(
        "You rewrite a chat message in a given style. You are not the reader: never answer the message, write it again for its "
        "writer. I stays I and you stays you. Keep every name, number, day, time and question, and what is not. Keep the language. Add nothing. "
        "Answer with the message only."
    ),
    examples=(
        (
            "Style: professional\nMessage: Hey, I don't have the numbers from Peter yet. Can you wait until Wednesday?",
            "I have not received the numbers from Peter yet. Would it be possible for you to wait until Wednesday?",
        ),
        (
            "Style: warm and kind\nMessage: I can't lend you the car on Sunday, I need it.",
            "I'd really like to help, but I need the car myself on Sunday. I'm sorry!",
        ),
        (
            "Style: in other words\nMessage: Who took my umbrella? It was next to the door.",
            "Does anybody know who took my umbrella? I had left it next to the door.",
        ),
        (
            "Style: light-hearted\nMessage: I'm late, the bus broke down on the bridge.",
            "I'm running late: the bus chose the bridge to break down and enjoy the view.",
        ),
        (
            "Style: in simpler words\nMessage: Bring your own cups for the concert, there are only 12.",
            "Please come to the concert with cups of your own, as we only have 12.",
        ),
        (
            "Style: as short as possible\nMessage: Just to let you know that me and Olga talked about it and we are not going to sell the boat this year.",
            "Olga and I are not selling the boat this year.",
        ),
        (
            "Style: correct spelling and grammar only\nMessage: Her brothers was waiting hear since 3 but nobody have came.",
            "Her brothers have been waiting here since 3, but nobody has come.",
        ),
        (
            "Style: professional\nMessage: die rechnung is noch nich da, schick sie mir bis montag",
            "Die Rechnung ist noch nicht angekommen. Bitte schick sie mir bis Montag.",
        ),
        (
            "Style: gentle\nMessage: no me gusta el color de la puerta, podemos cambiarlo?",
            "El color de la puerta no termina de gustarme. \u00bfPodr\u00edamos cambiarlo?",
        ),
    ),
)
"""Each token of it is time at the start of a CVM, about 10 ms on two cores, and none later."""
_DIGITS: Final = re.compile("[0-9]+")
_ENDS: Final = ".,;:!?)"
_LITERALS, _LITERAL, _RUNS = 24, 300, 64
_TOKENS_PER_CHARACTER: Final = 0.5
_LABEL: Final = re.compile(r"^(?:(?:message|rewritten(?: message)?|answer|style)\s*:\s*)+", re.IGNORECASE)
_QUOTES: Final = {'"': '"', "\u201c": "\u201d", "'": "'", "\u201e": "\u201c", "\u00ab": "\u00bb", "`": "`"}


def request(style: str, draft: str, attempt: int, context: Sequence[Message] = ()) -> tuple[str, float, int]:
    """The user's turn, the temperature and the seed of the given attempt, 0 to 5.

    `context` are the messages before the draft: data, like the draft. Those that speak to the machine are left out.
    """
    wordings = STYLES[style]
    lines = [
        f"- {shorten(one_line(one.sender), _NAME).replace(':', ' ')} (chat): {shorten(one_line(one.text), _LINE)}"
        for one in context[-CONTEXT:]
        if not addresses_machine(one.text) and not addresses_machine(one.sender)
    ]
    before = "Chat before the message, not to be answered:\n" + "\n".join(lines) + "\n\n" if lines else ""
    turn = f"{before}Style: {wordings[attempt % len(wordings)]}\nMessage: {one_line(correct(clean(draft)))}"
    temperature = 0.0 if attempt < len(wordings) else 0.6
    return turn, temperature, attempt


def grammar(draft: str) -> LineGrammar:
    """The form of a suggestion: a line with no number that the draft has not, and no words of another form but the draft's, links among them."""
    source = one_line(correct(clean(draft)))
    spelled = {run for number in spelled_numbers(source) for run in _DIGITS.findall(number)}
    known = {
        run for said in (clean(draft), source, joined(source)) for run in _DIGITS.findall(said)
    } | spelled
    whole = LineGrammar(numbers=frozenset(known | {"00"} if known else ()))
    bare = {word.rstrip(_ENDS) for said in (clean(draft), source) for word in said.split()}
    literals = {word for word in bare if word and "<|" not in word and not whole.accepts(word)}
    # Each of them costs time at every token: who writes nothing but such words gets none of them back.
    few = sorted(word for word in literals if len(word) <= _LITERAL)[:_LITERALS]
    return LineGrammar(numbers=whole.numbers if len(known) <= _RUNS else None, literals=frozenset(few))


def max_tokens(draft: str) -> int:
    """Tokens that a suggestion may take."""
    return 32 + int(len(draft) * _TOKENS_PER_CHARACTER)


def tidy(text: str) -> str:
    """A model's answer without labels and quotation marks around it."""
    text = _LABEL.sub("", one_line(text))
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def by_rules(style: str, draft: str) -> list[str]:
    """Suggestions without a model: only for English, and only where rules alone are of use."""
    plain = one_line(draft)
    if not is_english(plain):
        return []
    corrected = correct(plain)
    formal = spell_out(corrected)
    return {
        "proofread": [corrected],
        "professional": [formal, corrected],
        "rephrase": [formal, corrected],
        "shorten": [trim(corrected)],
    }.get(style, [])
