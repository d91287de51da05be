"""Which language a text is in, by its small words: good enough to answer in it."""

from typing import Final

from sottovoce.tee.features.text import words

__all__ = ["language"]

_SMALL_WORDS: Final = {
    "en": "the you i to and we it is for my are this that with at be not have will what your on of but in can do me cant dont im u please sorry",
    "de": "der die das und ich nicht ist wir ihr mit auf fur ein eine zum zur es wer kann um wo schon noch bei hat kein aber wie was",
    "fr": "le les une et je est pas pour avec nous vous des du au on que qui dans ce il elle mais tu la c'est",
    "es": "el los que por para con una es yo y en la no lo se las del muy pero como esta hay",
    "it": "il che per non sono di una e la ma con ci mi anche del io gli alle della come",
    "pt": "o os uma que para com nao eu e em do da se as no na mas por voce muito ja",
    "nl": "de het een en ik niet van voor op is we je dat met om kan wie nog maar ook",
}
_SETS: Final = {name: frozenset(listed.split()) for name, listed in _SMALL_WORDS.items()}


def language(text: str) -> str:
    """The code of the language that `text` is most likely in; "en" where nothing tells."""
    found = words(text)
    scores = {name: sum(word in known for word in found) for name, known in _SETS.items()}
    return max(scores, key=lambda name: scores[name])
