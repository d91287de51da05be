"""Which language a text is in, by its script and its small words: good enough to answer in it, and to know when not to."""

import unicodedata
from collections import Counter
from typing import Final

from sottovoce.tee.features.text import words

__all__ = ["UNKNOWN", "WRITTEN", "language"]

UNKNOWN: Final = ""
WRITTEN: Final = ("en", "de", "fr", "es", "it", "pt", "nl")
"""The languages that the packaged model writes well enough to be asked for text in them. Of the others only Hindi, Indonesian and those of other scripts are known here: a
Polish text is taken for English."""
_SMALL_WORDS: Final = {
    "en": "the you i to and we it is for my are this that with at be not have will what your on of but in can do me cant dont im u please sorry",
    "de": "der die das und ich nicht ist wir ihr mit auf fur ein eine zum zur es wer kann um wo schon noch bei hat kein aber wie was",
    "fr": "le les une et je est pas pour avec nous vous des du au on que qui dans ce il elle mais tu la c'est",
    "es": "el los que por para con una es yo y en la no lo se las del muy pero como esta hay",
    "it": "il che per non sono di una e la ma con ci mi anche del io gli alle della come",
    "pt": "o os uma que para com nao eu e em do da se as no na mas por voce muito ja",
    "nl": "de het een en ik niet van voor op is we je dat met om kan wie nog maar ook",
    "id": "yang yg di dan ke dari ini itu aku saya kamu kita ada tidak gak ga nggak udah sudah bisa jadi buat sama aja nanti besok jam dong kok ya",
    "hi": "hai hain ka ki ke ko me mein nahi nahin kya aur se kal toh bhi tha thi raha rahi karo kar lo main hum aap tum wala kab kaun bhai haan abhi sab",
}
_SETS: Final = {name: frozenset(listed.split()) for name, listed in _SMALL_WORDS.items()}
_SCRIPTS: Final = {"LATIN": "", "DEVANAGARI": "hi"}
"""The scripts whose languages are known, and the language where it is one."""
_SAMPLE: Final = 4000
_LEAD: Final = 2


def language(text: str) -> str:
    """The code of the language that `text` is most likely in: "en" where nothing tells, `UNKNOWN` for a script of another."""
    text = text[:_SAMPLE]
    scripts = Counter(
        unicodedata.name(character, "").partition(" ")[0] for character in text if character.isalpha()
    )
    script = scripts.most_common(1)[0][0] if scripts else "LATIN"
    if script not in _SCRIPTS:
        return UNKNOWN
    if found := _SCRIPTS[script]:
        return found
    said = words(text)
    scores = {name: sum(word in known for word in said) for name, known in _SETS.items()}
    best = max(scores, key=lambda name: scores[name])
    written = max(WRITTEN, key=lambda name: scores[name])
    # "Dan" and "main" are words of English too: one word is no sign of a language for which less can be done.
    return best if scores[best] - scores[written] >= _LEAD else written
