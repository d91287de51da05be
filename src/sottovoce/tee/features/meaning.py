"""Small words that carry what is meant: a suggestion that loses one of the draft's, or brings one, says something else.

Lists of words, most for English, some for German, French, Spanish, Portuguese, Italian and Dutch, and nothing that understands: what they do not see passes. How often that happens is measured (docs/quality.md).
"""

import itertools
import re
from collections.abc import Mapping
from typing import Final

from sottovoce.tee.features.languages import language
from sottovoce.tee.features.text import content_words, fold, listed, words

__all__ = ["other_meaning"]


def _ways(*rows: str) -> tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]:
    """Each row is "said / may be told as": words, with `_` for a blank and `*` for any ending."""

    def pattern(text: str) -> re.Pattern[str]:
        known = "|".join(
            re.escape(word).replace("_", " ").replace(r"\*", r"\w*") for word in fold(text).split()
        )
        return re.compile(rf"(?<![\w'])(?:{known})(?!\w)")

    return tuple(
        (pattern(said), pattern(f"{said} {told}")) for said, _, told in (row.partition("/") for row in rows)
    )


# Who leaves out "if" makes a promise of a condition. What is on the right may stand for what is on the left.
_RELATIONS: Final[Mapping[str, tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]]] = {
    "en": _ways(
        "if unless / should when in_case provided whether depending",
        "only / just solely no_more_than nothing_but except limited",
        "until till / by before",
        "before / by prior earlier ahead until first",
        "after / once later following since",
        "except / apart but besides other_than without",
        "instead / rather not",
        "again / another once_more repeat* still anew keep* re-*",
        "or / either alternatively otherwise else whichever",
        "almost nearly / about around close just_under",
        "maybe perhaps might / may possibly could probably not_sure",
        "never / not no at_no_time don't didn't nobody",
        "always / every* each all constantly",
        "nobody no_one / not none no without no-one",
        "too / also as_well enough excessive* very so over* much",

        "back / return* again",
        "how_much / cost price amount",
        "at_least / minimum no_fewer or_more",
        "at_most / maximum no_more up_to",
    ),
    "de": _ways(
        "wenn falls / sofern sollte ob", "nur bloss / lediglich allein ausschliesslich", "bis / spatestens vor", "vor / vorher bis ehe",
        "nach / danach sobald seit", "statt stattdessen / anstelle lieber sondern nicht", "oder / beziehungsweise entweder", "nie niemals / nicht kein*",
        "wieder / nochmal* erneut noch", "vielleicht / eventuell moglicherweise konnte", "ausser / bis_auf nur nicht",
    ),
    "fr": _ways(
        "si / au_cas quand lorsque", "seulement juste que / uniquement ne", "jusqu'* jusque / avant d'ici", "avant / d'ici jusqu'*", "apres / une_fois des depuis",
        "ou / soit", "jamais / pas ne", "encore / toujours de_nouveau a_nouveau re*", "peut-etre / pourrait possible*",
    ),
    "es": _ways(
        "si / en_caso cuando", "solo solamente / unicamente nada_mas", "hasta / antes", "antes / hasta", "despues / luego tras cuando",
        "o / u bien", "nunca / no jamas", "otra_vez / de_nuevo nuevamente vuelv*", "quizas tal_vez / puede posible*", "tampoco / no ni",
    ),
    "it": _ways(
        "se / qualora quando", "solo soltanto / unicamente", "fino / entro prima", "prima / entro fino", "dopo / quando appena", "mai / non", "oppure / o", "forse / potrebbe magari",
    ),
    "nl": _ways(
        "als / indien wanneer mits", "alleen / slechts enkel pas", "tot / uiterlijk voor", "na / zodra nadat", "nooit / niet geen", "misschien / wellicht zou",
    ),
    "pt": _ways(
        "se_voce se_vc se_eu se_for se_nao se_der se_chover se_puder se_quiser se_tiver / caso quando se",
        "so somente / apenas unicamente", "ate / antes", "antes / ate", "depois / apos quando",
        "ou / quer", "nunca / nao jamais", "de_novo / novamente outra_vez volt*", "talvez / pode possivel*", "tambem_nao / nem nao",
    ),
}  # fmt: skip
_ASKED: Final[Mapping[str, tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]]] = {
    "en": _ways(
        "who whose whom / anybody anyone somebody someone", "what / which", "which / what", "when / what_time what_day how_soon", "where / what_place which_place location",
        "why / reason how_come what_for", "how / what_way",
    ),
    "de": _ways("wer wem wen wessen / jemand", "was / welche*", "wann / um_wie_viel", "wo wohin woher / welche*", "warum wieso weshalb / grund", "wie / auf_welche"),
    "fr": _ways("qui / quelqu'un", "quand / quelle_heure quel_jour", "ou / quel*", "pourquoi / raison", "comment / quelle_facon", "combien / quel*"),
    "es": _ways("quien* / alguien", "cuando / que_hora que_dia", "donde / que_lugar", "por_que / razon motivo", "como / que_manera", "cuanto* / que_cantidad"),
    "pt": _ways("quem / alguem", "quando / que_horas que_dia", "onde / que_lugar", "por_que porque / razao motivo", "como / que_jeito", "quanto* / qual"),
}  # fmt: skip
_MONEY: Final = re.compile(
    r"[$\u20ac\u00a3\u20b9]|\b(?:eur|usd|inr|quid|bucks|rs|rp|euros?|dollars?|pounds?|rupees|reais|rupiah)\b"
)
_DUTY: Final = re.compile(
    r"\b(?:must|have to|has to|had to|need(?:s|ed)? to|don't need|got to|gotta|ought|should(?! (?:it|there|you|we|they|anybody|be fine)\b)|supposed to|m[u]ss(?:t|en)?|sollt?e?[nst]*|t(?:engo|ienes?|enemos|ienen) que|hay que|debes?|deve|te(?:m|nho|mos) que|il faut|doi[st])\b"
)
_BIDS: Final = listed(
    "ask be bring buy call check come do don't drop feed fetch find forget get give go help keep leave let look make meet open pass pay pick please put read remember "
    "ring say see send show sit stay stop take talk tell text try turn use wait wake wash watch write"
)
_OWN: Final = listed("i i'm i've i'll i'd me my mine myself")
_THIRD: Final[Mapping[str, tuple[frozenset[str], ...]]] = {
    "en": tuple(map(listed, ("he him his he's he'll he'd", "she her hers she's she'll she'd", "they them their they're they'll they've they'd"))),
    "fr": tuple(map(listed, ("elle elles", "ils eux"))),
    "es": tuple(map(listed, ("ellos", "ellas"))),
    "pt": tuple(map(listed, ("eles deles", "elas delas"))),
}  # fmt: skip
"""Words that are nothing else: an article or a verb's own "it" is none."""
# Who said "du" does not say "Sie". At the beginning of a sentence it may be another word.
_FORMAL: Final = re.compile(r"(?<![.!?] )(?<!^)\b(?:Sie|Ihnen|Ihre?[nmrs]?)\b|\b[Uu]stede?s?\b")
_ABOUT: Final = re.compile(r"\b(?:how|what) about\b")
_ADDRESS: Final = re.compile(
    r"^(?:(?:oh|ah|hey|well|so)[,!. ]+)?(?:i know|i see|i hope you|i(?:'m| am) glad|great|good (?:idea|point|job)|cool|awesome|wow|haha|lol|that's (?:great|fine|ok)|no need)\b"
)


def other_meaning(source: str, text: str) -> bool:
    """Whether a small word says that `text` means something else than `source`."""
    plain, told = fold(source), fold(text)
    code = language(source)
    return (
        _lost(_RELATIONS.get(code, ()), plain, told)
        or _lost(_ASKED.get(code, ()), _questions(plain), told)
        or (bool(_MONEY.search(told)) and not _MONEY.search(plain))
        or (bool(_DUTY.search(told)) and not _DUTY.search(plain))
        or (bool(_ADDRESS.search(told)) and not _ADDRESS.search(plain))
        or _speaks_of_herself(words(source), words(text))
        or _speaks_of_others(_THIRD.get(code, ()), words(source), words(text))
        or (bool(_FORMAL.search(text)) and not _FORMAL.search(source))
        or _has_sentence_of_its_own(source, text)
    )


def _lost(ways: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...], plain: str, told: str) -> bool:
    return any(said.search(plain) and not kept.search(told) for said, kept in ways)


def _questions(plain: str) -> str:
    plain = _ABOUT.sub("", plain)
    return " ".join(part for part, end in itertools.pairwise(re.split(r"([.!?])", plain)) if end == "?")


def _speaks_of_herself(ours: list[str], theirs: list[str]) -> bool:
    """Whether a bid became a statement: "bring a jumper" is not "I need a jumper", "forget it" not "I forgot it"."""
    if not ours or not theirs or ours[0] not in _BIDS:
        return False
    return theirs[0] in _OWN or (not _OWN.intersection(ours) and bool(_OWN.intersection(theirs)))


def _speaks_of_others(third: tuple[frozenset[str], ...], ours: list[str], theirs: list[str]) -> bool:
    """Whether somebody comes up of whom the draft does not speak: "they said" for "you said"."""
    return any(some.intersection(theirs) and not some.intersection(ours) for some in third)


def _has_sentence_of_its_own(source: str, text: str) -> bool:
    ours = content_words(source)
    parts = (content_words(part) for part in re.split(r"[.!?]", text))
    return any(len(part) > 1 and not part & ours for part in parts)
