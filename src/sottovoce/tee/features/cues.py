"""Cues: words and forms that tell what a message does. Patterns are for folded text (lower case, no accents).

English first; German, French, Spanish, Italian, Portuguese and Dutch where a few words are cheap and clear.
"""

import re
from enum import Enum
from typing import Final

__all__ = ["Act", "acts", "days", "is_small_talk", "revises", "times"]


class Act(Enum):
    """What a sentence does."""

    DECISION = "decision"
    COMMITMENT = "commitment"
    REQUEST = "request"
    QUESTION = "question"
    PROPOSAL = "proposal"
    CHANGE = "change"
    NEWS = "news"
    ACCEPTANCE = "acceptance"
    REFUSAL = "refusal"
    THANKS = "thanks"


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile(r"(?:" + "|".join(patterns) + r")")


_ACTS: Final = {
    Act.DECISION: _any(
        r"\b(?:decided|agreed|settled|confirmed|booked|reserved|finali[sz]ed|it'?s a (?:deal|date)|deal|that'?s final|final answer|"
        r"scheduled|all set|we(?:'re| are) going with|will be (?:on|at)|we meet|we'll meet|won with)\b",
        r"\b(?:let'?s (?:do|meet|go|say|make it|take)|we(?:'ll| will) (?:do|meet|go|take))\b(?!.*\?)",
        r"\b(?:abgemacht|beschlossen|entschieden|gebucht|reserviert|bestatigt|steht fest|fix|wir treffen uns|ausgemacht|vereinbart)\b",
        r"\b(?:c'est decide|decide|reserve|confirme|convenu|on se (?:voit|retrouve)|c'est bon pour)\b",
        r"\b(?:decidido|reservado|confirmado|acordado|quedamos|hecho|listo|deciso|prenotato|confermato|combinado|marcado|afgesproken|geboekt|besloten)\b",
    ),
    Act.COMMITMENT: _any(
        r"\bi(?:'ll| will| can(?!'|no)|'m going to| am going to|'ve| have (?:booked|ordered|asked|sent|paid)| take| bring| send| drive| pick)\b",
        r"\b(?:count me in|on it|leave it to me|i'm on)\b",
        r"\b(?:ich (?:bringe?|mache?|kummere?|ubernehme?|hole?|kaufe?|fahre?|schicke?|kann|werde|bestelle?)|mach(?:e)? ich|bring(?:e)? ich)\b",
        r"\b(?:je (?:m'occupe|m'en occupe|peux|vais|prends|ramene|apporte|reserve)|j'(?:apporte|amene|achete|envoie|irai))\b",
        r"\b(?:yo (?:llevo|traigo|me encargo|puedo|compro)|me encargo|ci penso io|porto io|eu (?:levo|trago|posso|compro)|ik (?:neem|breng|kan|zal|regel|haal))\b",
    ),
    Act.REQUEST: _any(
        r"\b(?:please|can (?:you|someone|somebody|anyone|anybody)|could (?:you|someone|somebody|anyone|anybody)|would you|will you|"
        r"don'?t forget|remember to|remind(?:er)?|make sure|let me know|tell me|send me|bring|need(?:s)? (?:to know|the|your|you|one more|someone)|by (?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|tomorrow|noon|tonight|\d))\b",
        r"\b(?:bitte|kannst du|konnt ihr|konntest du|wer kann|nicht vergessen|denkt an|denk an|sagt mir|gebt bescheid|gib bescheid|brauche)\b",
        r"\b(?:s'il (?:te|vous) plait|stp|svp|peux-tu|pouvez-vous|tu peux|vous pouvez|n'oubliez pas|n'oublie pas|dites-moi|dis-moi)\b",
        r"\b(?:por favor|puedes|podeis|pueden|no olvid\w+|avisad?me|per favore|puoi|potete|fammi sapere|voce pode|podes|alsjeblieft|kun je|kunnen jullie|vergeet niet)\b",
    ),
    Act.QUESTION: _any(r"[?\uff1f\u061f]"),
    Act.PROPOSAL: _any(
        r"\b(?:how about|what about|shall we|should we|why don'?t we|we could|could we|can we|maybe we|i (?:suggest|propose|vote)|"
        r"what if|would .{1,30} work|does .{1,30} work)\b",
        r"\b(?:wie ware|sollen wir|wollen wir|konnten wir|vorschlag|passt (?:euch|dir)|wie ist es mit)\b",
        r"\b(?:on pourrait|pourquoi pas|ca (?:te|vous) va|et si|on peut)\b|\b(?:que tal|podriamos|podemos|os va bien|che ne dite|potremmo|possiamo|zullen we|kunnen we)\b",
    ),
    Act.CHANGE: _any(
        r"\b(?:actually|instead|changed?|moved?|new (?:time|date|place|address|plan|kick-?off)|postponed?|cancell?ed|cancel|called off|is off|no longer|"
        r"correction|rather than|delayed|rescheduled?|earlier|later than|not \w+ but|update)\b",
        r"\b(?:doch (?:nicht|lieber)|stattdessen|verschoben|abgesagt|fallt aus|geandert|neue[rs]? (?:termin|zeit|ort|uhrzeit)|statt)\b",
        r"\b(?:finalement|plutot|a la place|reporte|annule|change|decale)\b|\b(?:al final|en vez|cambi\w+|cancelad\w+|aplazad\w+|invece|spostat\w+|annullat\w+|em vez|adiad\w+|toch|verplaatst|afgelast|in plaats)\b",
    ),
    Act.NEWS: _any(
        r"\b(?:important|urgent|attention|heads up|bad news|good news|deadline|due|closed|broken|sick|ill|hospital|accident|late|stuck|lost|found|"
        r"won|born|passed|price|costs?|paid|address|code|parking|meeting point|train|flight|tickets?)\b",
        r"\b(?:wichtig|dringend|achtung|frist|geschlossen|kaputt|krank|unfall|verspatung|kostet|adresse|treffpunkt|zug|flug)\b",
        r"\b(?:ferme|malade|en retard|coute|adresse|rendez-vous|importante?|urgente|cerrado|enfermo|tarde|cuesta|direccion|chiuso|malato|ritardo|indirizzo|fechado|doente|atrasad\w+|belangrijk|gesloten|ziek|adres)\b",
    ),
    Act.ACCEPTANCE: _any(
        r"^(?:yes|yep|yeah|yup|sure|ok|okay|perfect|great|fine|good|sounds (?:good|great)|works|me too|i'm in|im in|in|deal|agreed|absolutely|of course|will do|done)\b",
        r"\b(?:works|work) for (?:me|us)\b|\bis (?:fine|good|perfect|better|great)\b|\bsuits me\b|\bi'?m in\b|\byes!",
        r"^(?:ja|klar|passt|gerne|super|geht|oui|d'accord|parfait|ca marche|si|vale|perfecto|claro|va bene|certo|perfetto|sim|perfeito|prima|goed)\b|\bpasst (?:mir|bei mir|gut)\b",
    ),
    Act.REFUSAL: _any(
        r"\b(?:can'?t|cannot|won'?t|not able|unable|i'm out|im out|no way|doesn'?t work|isn'?t possible|not possible|is (?:bad|no good|difficult)|not good for me|busy|away|have to work|out of town)\b",
        r"\b(?:kann (?:\w+ ){0,3}nicht|geht (?:\w+ ){0,2}nicht|leider|schaffe? (?:\w+ )?nicht|ne peux pas|peux pas|pas possible|desole|no puedo|no podre|non posso|nao posso|kan niet|lukt niet)\b",
    ),
    Act.THANKS: _any(
        r"\b(?:thank(?:s| you)|thx|ty|cheers|congrat\w*|happy birthday|welcome|good (?:morning|night|luck)|morning all|hello|hi all|lol|haha\w*|love it|so cute|my pleasure|nice one|enjoy)\b",
        r"\b(?:danke\w*|guten morgen|gute nacht|gluckwunsch|viel spass|merci|bonjour|bonne (?:nuit|journee)|felicitations|gracias|buenos dias|felicidades|grazie|buongiorno|auguri|obrigad\w+|parabens|bom dia|bedankt|dank je|goedemorgen|gefeliciteerd)\b",
    ),
}
_DAYS: Final = {
    name: number
    for number, names in enumerate(
        (
            "monday mondays mon montag montags mo lundi lunes lunedi segunda maandag",
            "tuesday tuesdays tue tues dienstag mardi martes martedi terca dinsdag",
            "wednesday wednesdays wed mittwoch mercredi miercoles mercoledi quarta woensdag",
            "thursday thursdays thu thur thurs donnerstag jeudi jueves giovedi quinta donderdag",
            "friday fridays fri freitag vendredi viernes venerdi sexta vrijdag",
            "saturday saturdays sat samstag sonnabend samedi sabado sabato zaterdag",
            "sunday sundays sun sonntag dimanche domingo domenica zondag",
        )
    )
    for name in names.split()
}
_RELATIVE: Final = r"today|tonight|tomorrow|tmrw|tmr|tomorow|heute|morgen|ubermorgen|aujourd'hui|ce soir|demain|hoy|esta noche|manana|oggi|stasera|domani|hoje|amanha|vandaag|vanavond"
_MONTHS: Final = (
    "january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|"
    "januar|februar|marz|mai|juni|juli|oktober|dezember|janvier|fevrier|mars|avril|juin|juillet|aout|septembre|octobre|novembre|decembre|"
    "enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre|gennaio|febbraio|aprile|maggio|giugno|luglio|"
    "settembre|ottobre|dicembre|janeiro|fevereiro|marco|maio|junho|julho|setembro|outubro|novembro|dezembro"
)
_DAY_WORD: Final = re.compile(rf"\b(?:{'|'.join(sorted(_DAYS, key=len, reverse=True))})\b")
_DAY: Final = re.compile(
    rf"\b(?P<relative>{_RELATIVE})\b|\b(?P<date>\d{{1,2}}(?:st|nd|rd|th|\.)?(?: of)? (?:{_MONTHS})|(?:{_MONTHS}) \d{{1,2}}|\d{{1,2}}[./]\d{{1,2}}(?:[./]\d{{2,4}})?)\b|\bthe (?P<nth>\d{{1,2}})(?:st|nd|rd|th)\b"
)
_TIME: Final = re.compile(
    r"\b(?:[01]?\d|2[0-3])[:.h][0-5]\d\b|\b(?:1[0-2]|0?[1-9])(?::[0-5]\d)? ?(?:am|pm|a\.m|p\.m)\b|\b(?:[01]?\d|2[0-3]) ?(?:uhr|h|heures|uur)\b|"
    r"\b(?:at|um|gegen|a las|alle|until|till|by) (?:[01]?\d|2[0-3]|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b"
    rf"(?![:.h]\d|\s*(?:%|euro|eur|km|people|{_MONTHS}))|"
    r"\b(?:noon|midnight|half past \w+|quarter (?:to|past) \w+|halb \w+|mittags?|midi|minuit|mediodia)\b"
)


def acts(folded: str) -> frozenset[Act]:
    """What the sentence `folded` does."""
    found = {act for act, pattern in _ACTS.items() if pattern.search(folded)}
    if {Act.QUESTION, Act.PROPOSAL} <= found and Act.CHANGE not in found:
        found.discard(Act.DECISION)  # "shall we meet" decides nothing
    return frozenset(found)


def days(folded: str) -> frozenset[str]:
    """The days that `folded` names: week days, dates, "tomorrow"."""
    found = {f"weekday {_DAYS[match]}" for match in _DAY_WORD.findall(folded) if match not in _AMBIGUOUS}
    return frozenset(found | {match[0] for match in _DAY.finditer(folded)})


_FEW: Final = 6
"""Words beside a greeting that still say nothing."""
# Short forms that are words too: they count only with a capital or a date beside them, which folding has taken away.
_AMBIGUOUS: Final = frozenset(
    {"mo", "sun", "sat", "wed", "mon", "quarta", "quinta", "sexta", "segunda", "terca"}
)


def times(folded: str) -> frozenset[str]:
    """The times of day that `folded` names."""
    return frozenset(match[0] for match in _TIME.finditer(folded))


_REVISION: Final = re.compile(
    r"\b(?:now|then|instead|actually|wrong|sorry|correction|change[sd]?|moved?|new|rebooked|rather|not|no|isn't|cancell?ed|cancel|off|postponed|shut|closed|"
    r"jetzt|doch|statt|stattdessen|verschoben|abgesagt|falsch|nicht|neue?[rsn]?|finalement|plutot|maintenant|pas|reporte\w*|annul\w*|"
    r"ahora|cambi\w+|al final|mejor|ya no|en vez|agora|mudou|muda\w*|afinal|remarc\w+|adiad\w+|nao|em vez|invece|spostat\w+|toch|verplaatst|"
    r"undur|diundur|ganti|pindah|batal|jadi\w*|bukan|gak|ga|tidak|ab|badal\w*|nahi|nahin)\b|अब|बदल|नहीं|रद्द"
)


def revises(folded: str) -> bool:
    """Whether `folded` may say that something is otherwise than it was said before."""
    return _REVISION.search(folded) is not None


def is_small_talk(folded: str, found: frozenset[Act]) -> bool:
    """Whether a sentence is thanks, a greeting or a laugh and nothing more."""
    rest = _ACTS[Act.THANKS].sub("", folded)
    serious = found & {Act.DECISION, Act.REQUEST, Act.QUESTION, Act.CHANGE, Act.PROPOSAL}
    return Act.THANKS in found and not serious and len(rest.split()) <= _FEW
