"""What a suggestion must keep of its draft. The model's wording is free; facts, speaker and question are not."""

import itertools
import re
from collections.abc import Sequence
from typing import Final

from sottovoce.tee.features.cues import days
from sottovoce.tee.features.meaning import other_meaning
from sottovoce.tee.features.rewrite import PROMPT
from sottovoce.tee.features.spelling import correct, is_english
from sottovoce.tee.features.text import (
    clean,
    content_words,
    fold,
    has_address,
    joined,
    listed,
    numbers,
    spelled_numbers,
    stem,
    words,
)

__all__ = ["check_suggestion"]

_ROUND: Final = re.compile(r"(?<=\d)[:.]00\b")
_FORM: Final = re.compile(
    r"[<>{}\[\]`*#|\\]|^\s*(?:\d+[.)]|[-•])\s|\n|\b(?:style|message|draft|rewritten)\s*:", re.IGNORECASE
)
_FIRST: Final = listed(
    "i i'm i'll i've i'd me my mine myself we we're we'll us our im ich mir mich mein meine je moi mon yo mi io eu ik"
)
_SECOND: Final = listed("you you're you'll you've your yours u ur")
_NEGATION: Final = re.compile(
    r"\b(?:not|no|never|cannot|unable|nothing|nobody|none|without|disagree\w*|unavailable|unfortunately|afraid|miss|impossible|out)\b|n't\b|\b(?:nicht|kein\w*|pas|nao|niet|non)\b"
)
_REPLY: Final = re.compile(
    r"^(?:sure|yes|no problem|of course|certainly|absolutely|got it|understood|no worries|okay|got (?:the|it|your|my)|thank you for|thanks for|i understand|"
    r"i(?:'m| am) sorry to hear|sorry to hear)\b"
)
_HELP_DESK: Final = re.compile(
    r"hope this (?:message|email|finds)|assist you|as an ai|language model|any (?:further )?(?:questions|inconvenience)|feel free to|best regards|"
    r"kind regards|sincerely|yours truly|for your (?:understanding|patience|attention|prompt)|\[your|dear (?:sir|madam|team)|i apologi[sz]e for|"
    r"let me know if (?:you|there|this)|look(?:ing)? forward|reach out|for the (?:inconvenience|delay|confusion|wait)|(?:is there )?anything (?:else )?(?:i|we) can|don't hesitate|do not hesitate|at your earliest|appreciate your"
)
_JOINTS: Final = re.compile(
    r"[.!?;,]|\b(?:and|but|because|cause|so|then|while|und|aber|weil|denn|dann|y|pero|porque|et|mais|car|parce|mas)\b",
    re.IGNORECASE,
)
_WEAK: Final = frozenset(
    map(stem, listed("make makes tell say said take come give keep let use find able work"))
)
"""Verbs that can be said in many other ways."""
_ODD: Final = re.compile(r"\d:\d(?!\d)|(?<![\d:.])0\d(?![\d:.])|\d[.,](?!\d)\S")
"""Numbers that nobody writes so, unless the draft does."""
_ENDS: Final = ".,;:!?)"
_GROWTH, _SLACK = 1.7, 40
_SHARED: Final = 0.34
_SHARED_SHORT: Final = 0.5
_NEW: Final = 0.5
_EXAMPLE_LIKE: Final = 0.6
_SHORT: Final = 3
_ALIKE: Final = 0.85
_FREE: Final = frozenset({"i", "am", "pm", "ok", "tv"})


def check_suggestion(draft: str, text: str, style: str, earlier: Sequence[str] = ()) -> str | None:
    """Why `text` is no suggestion for `draft` in `style`, as one word; None where nothing is wrong with it.

    `earlier` are the suggestions that were already given.
    """
    source = correct(clean(draft))
    if not text or text != clean(text) or _FORM.search(text):
        return "form"
    if len(text) > _limit(style, source):
        return "length"
    if has_address(text) and not _addresses_kept(draft, text):
        return "link"
    return _facts(source, text) or _voice(source, text, style) or _likeness(source, text, style, earlier)


def _limit(style: str, source: str) -> int:
    return max(len(source) - 1, 12) if style == "shorten" else int(_GROWTH * len(source)) + _SLACK


def _addresses_kept(draft: str, text: str) -> bool:
    known = {piece.rstrip(_ENDS) for piece in draft.casefold().split()}
    told = (piece.rstrip(_ENDS) for piece in text.casefold().split())
    return all(piece in known for piece in told if has_address(piece)) and has_address(draft)


def _plain_numbers(text: str) -> str:
    return joined(_ROUND.sub("", text))


def _exact(text: str) -> set[str]:
    """The long numbers of `text` as they are written, but for what parts their thousands: 0042 is not 42, and 2,50 not 2,050."""
    return {run for run in re.findall(r"\d+", joined(text)) if len(run) >= _SHORT}


def _counted(text: str) -> set[str]:
    return set(numbers(_plain_numbers(text)) | spelled_numbers(text))


def _facts(source: str, text: str) -> str | None:
    ours, theirs = _counted(source), _counted(text)
    if _exact(source) != _exact(text) or (_ODD.search(text) and not _ODD.search(source)):
        return "number"
    if not numbers(_plain_numbers(source)) <= theirs or not theirs <= ours | {"1"}:
        return "number"
    if days(fold(source)) != days(fold(text)):
        return "day"
    if is_english(source) and _names(source) - set(words(text)):
        return "name"
    if is_english(source) and _names(text) - set(words(source)):
        return "name"
    return None


def _names(text: str) -> set[str]:
    """Words with a capital that do not begin a sentence."""
    found: set[str] = set()
    for match in re.finditer(r"[^\W\d_]+(?:'[^\W\d_]+)?", text):
        before = text[: match.start()].rstrip(" \"'(")
        first = not before or before[-1] in ".!?:"
        if match[0][0].isupper() and not first:
            found.update(words(match[0]))
    return {name for name in found if name not in _FREE and not name.startswith("i'") and not days(name)}


def _voice(source: str, text: str, style: str) -> str | None:
    plain, told = fold(source), fold(text)
    if _REPLY.search(told) and not _REPLY.search(plain):
        return "reply"
    if not min(1, source.count("?")) <= text.count("?") <= source.count("?"):
        return "question"
    if _HELP_DESK.search(told) and not _HELP_DESK.search(plain):
        return "phrase"
    if _is_other_person(words(source), words(text), style):
        return "person"
    return "meaning" if bool(_NEGATION.search(plain)) is not bool(_NEGATION.search(told)) else None


def _is_other_person(ours: Sequence[str], theirs: Sequence[str], style: str) -> bool:
    # "Can't come tomorrow" is short for "I can't".
    lost = style != "shorten" and bool(_FIRST.intersection(ours)) and not _FIRST.intersection(theirs)
    return lost or _flips(ours, theirs)


def _flips(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether what the writer says of herself is said of the reader: "you can't" for "I can't"."""
    pairs = set(itertools.pairwise(theirs))
    verbs = {word for word in ours if word.endswith("n't") or word in {"cannot", "will", "have", "am"}}
    known = set(itertools.pairwise(ours))
    return any(("you", verb) in pairs and ("you", verb) not in known for verb in verbs) or (
        "you're" in theirs and not _SECOND.intersection(ours)
    )


def _parts(source: str) -> list[tuple[frozenset[str], bool]]:
    """What each part of the draft is about, where it is about something, and whether it says that it is not so."""
    found = []
    for part in _JOINTS.split(source):
        said = words(part)
        positive = [word for word in said if not _NEGATION.search(word)]
        topic, negated = content_words(" ".join(positive)), len(positive) < len(said)
        if len(topic) > 1 or (topic and negated):
            found.append((topic, negated))
    return found


def _likeness(source: str, text: str, style: str, earlier: Sequence[str]) -> str | None:
    if _is_example(content_words(source), content_words(text)):
        return "example"
    if not _means_the_same(source, text, style) or other_meaning(source, text):
        return "meaning"
    others = earlier if style == "proofread" else (*earlier, source)
    if any(words(text) == words(other) for other in others) or text in earlier:
        return "same"
    if style != "proofread" and any(_overlap(text, other) > _ALIKE for other in earlier):
        return "same"
    return None


def _means_the_same(source: str, text: str, style: str) -> bool:
    ours, theirs = content_words(source), content_words(text)
    if len(ours & theirs) < (_SHARED_SHORT if style == "shorten" else _SHARED) * len(ours):
        return False
    if style != "shorten" and any(not part & theirs for part, _ in _parts(source)):
        return False
    # What is not so must be told nearly whole, or something else is not so.
    if any(negated and not _mostly(part, theirs) for part, negated in _parts(source)):
        return False
    return style == "funny" or len(theirs - ours) <= max(_SHORT, _NEW * len(theirs))


def _mostly(part: frozenset[str], theirs: frozenset[str]) -> bool:
    strong = part - _WEAK
    return 2 * len(strong & theirs) > len(strong) - (len(strong) > _SHORT) or not strong


def _is_example(ours: frozenset[str], theirs: frozenset[str]) -> bool:
    told = (content_words(example) - ours for _, example in PROMPT.examples)
    return any(len(own & theirs) >= max(2, _EXAMPLE_LIKE * len(own)) for own in told)


def _overlap(one: str, other: str) -> float:
    ours, theirs = set(words(one)), set(words(other))
    return len(ours & theirs) / max(1, len(ours | theirs))
