"""Careful spelling for English chat language: only what is certain, in code. Other languages are left as they are.

It makes the draft easier to read for a small model, and is a suggestion of its own where the model has none.
"""

import re
from typing import Final

from sottovoce.tee.features.languages import language
from sottovoce.tee.features.text import has_address

__all__ = ["correct", "is_english", "spell_out", "trim"]

_WORDS: Final = {
    "cant": "can't", "dont": "don't", "wont": "won't", "didnt": "didn't", "doesnt": "doesn't", "isnt": "isn't", "wasnt": "wasn't",
    "arent": "aren't", "havent": "haven't", "hasnt": "hasn't", "couldnt": "couldn't", "shouldnt": "shouldn't", "wouldnt": "wouldn't",
    "im": "I'm", "ive": "I've", "youre": "you're", "theyre": "they're", "thats": "that's", "whats": "what's", "lets": "let's",
    "i": "I", "u": "you", "ur": "your", "r": "are", "pls": "please", "plz": "please", "thx": "thanks", "ty": "thank you",
    "sry": "sorry", "tmrw": "tomorrow", "tmr": "tomorrow", "tomorow": "tomorrow", "tommorow": "tomorrow", "tonite": "tonight",
    "2nite": "tonight", "2morrow": "tomorrow", "gonna": "going to", "wanna": "want to", "gotta": "have to", "bday": "birthday",
    "msg": "message", "ppl": "people", "bc": "because", "cuz": "because", "coz": "because", "tho": "though", "thru": "through",
    "abt": "about", "b4": "before", "teh": "the", "recieve": "receive", "recieved": "received", "definately": "definitely",
    "seperate": "separate", "untill": "until", "wich": "which", "becuase": "because", "alot": "a lot", "asap": "as soon as possible",
    "idk": "I don't know", "btw": "by the way", "ok": "OK", "mon": "Monday", "tues": "Tuesday", "thurs": "Thursday", "fri": "Friday",
    "monday": "Monday", "tuesday": "Tuesday", "wednesday": "Wednesday", "thursday": "Thursday", "friday": "Friday",
    "saturday": "Saturday", "sunday": "Sunday", "january": "January", "february": "February", "april": "April", "june": "June",
    "july": "July", "august": "August", "september": "September", "october": "October", "november": "November", "december": "December",
}  # fmt: skip
_LONG: Final = {
    "can't": "cannot", "don't": "do not", "won't": "will not", "didn't": "did not", "doesn't": "does not", "isn't": "is not",
    "wasn't": "was not", "aren't": "are not", "haven't": "have not", "hasn't": "has not", "couldn't": "could not",
    "shouldn't": "should not", "wouldn't": "would not", "i'm": "I am", "i've": "I have", "i'll": "I will", "i'd": "I would",
    "we're": "we are", "we'll": "we will", "you're": "you are", "that's": "that is", "it's": "it is", "let's": "let us",
    "yeah": "yes", "hey": "hello", "bye": "goodbye",
}  # fmt: skip
_TOKEN: Final = re.compile(r"(?<![\w@/.'])[A-Za-z0-9]+(?:'[A-Za-z]+)?(?![\w@/'])")
_HOUR: Final = re.compile(r"\b(\d{1,2}(?:[:.]\d\d)?) ?([ap])\.?m\b\.?", re.IGNORECASE)
_SENTENCE: Final = re.compile(r"(?:^|[.!?]\s+)[a-z]")
_ASKS: Final = "can|could|shall|should|will|would|do|does|did|is|are|am|was|were|have|has"
# "Can't you come" asks, "can't come" does not.
_QUESTION: Final = re.compile(
    rf"^(?:(?:hey|hi|hello|ok|so|and|but|sorry)[\w ]{{0,20}}, )?(?:(?:{_ASKS}|wo)n?'t (?:you|we|i|he|she|they|it|that|this|there)\b|"
    rf"(?:{_ASKS}|what|when|where|who|why|how|which|may)\b(?!'t))",
    re.IGNORECASE,
)
_SORRY: Final = re.compile(r"(?<=[a-z0-9]) (sorry)(?=[,.!?]|$)", re.IGNORECASE)
_THERE: Final = re.compile(r"(^|[.!?,] ?)there in (?=\d)", re.IGNORECASE)
_MINUTES: Final = re.compile(r"\b(\d+) ?mins?\b(?!\.?\w)", re.IGNORECASE)


def is_english(text: str) -> bool:
    """Whether `text` is most likely English."""
    return language(text) == "en"


def correct(text: str) -> str:
    """`text` with certain mistakes of chat language corrected, sentences begun with a capital and ended."""
    text = text.strip()
    if not is_english(text):
        return text
    text = _HOUR.sub(lambda match: f"{match[1]} {match[2].upper()}M", _replace(text, _WORDS))
    text = _MINUTES.sub(r"\1 minutes", _THERE.sub(r"\1I'll be there in ", text))
    text = _SORRY.sub(r", \1", text)
    # A comma before a question that could stand alone is where people forget the full stop.
    text = re.sub(r", (?=(?:can|could|shall) (?:we|you|i)\b)", ". ", text, flags=re.IGNORECASE)
    text = _SENTENCE.sub(lambda match: match[0][:-1] + match[0][-1].upper(), text)
    if text[-1:].isalnum():
        last = re.split(r"[.!?]\s+", text)[-1]
        text += "?" if _QUESTION.match(last) else "."
    return text


def spell_out(text: str) -> str:
    """`text` without short forms, for a more formal tone."""
    out = _replace(text, _LONG)
    out = re.sub(r"\b([Cc])an (we|you)\b", lambda m: ("C" if m[1] == "C" else "c") + f"ould {m[2]}", out)
    out = re.sub(r"^(I cannot [^.!?]*?), sorry\b", r"I am sorry, but \1", out)
    out = re.sub(
        r"^(Cannot [^.!?]*?), sorry\b", lambda m: f"I am sorry, but I {m[1][0].lower()}{m[1][1:]}", out
    )
    return _SENTENCE.sub(lambda match: match[0][:-1] + match[0][-1].upper(), out)


_FILLERS: Final = re.compile(
    r"^(?:hey|hi|hello)(?: [a-z]+)?[,!.]? (?=\w)|,? sorry(?=[,.!?])|\bI just wanted to (?:say|ask|tell you)(?: that| if)? |\b(?:just|really|actually|basically) ",
    re.IGNORECASE,
)
_ASIDE: Final = re.compile(r"\b(?:can|could|shall) we (?:do|meet(?: on)?|make it|try) ", re.IGNORECASE)


def trim(text: str) -> str:
    """`text` without greetings, apologies and filler words."""
    out = _ASIDE.sub("", _FILLERS.sub("", text)).strip(" ,")
    return _SENTENCE.sub(lambda match: match[0][:-1] + match[0][-1].upper(), out)


def _replace(text: str, table: dict[str, str]) -> str:
    def one(match: re.Match[str]) -> str:
        new = table.get(match[0].casefold())
        if new is None:
            return match[0]
        return new[0].upper() + new[1:] if match[0][0].isupper() else new

    return re.sub(
        r"\S+", lambda chunk: chunk[0] if _is_address(chunk[0]) else _TOKEN.sub(one, chunk[0]), text
    )


def _is_address(chunk: str) -> bool:
    return "://" in chunk or "@" in chunk or chunk.startswith("www.") or has_address(chunk)
