"""Messages that speak to the machine instead of to people (threats, section C).

A filter in code, because what a prompt forbids an adaptive writer finds a way around. It errs towards taking a message for an
ordinary one: a message that it does find is not shown to the model and not quoted, and the device is told so.
"""

import re
from typing import Final

from sottovoce.tee.features.text import clean, fold

__all__ = ["addresses_machine"]

_MACHINE: Final = r"(?:ai|a\.i\.|assistant|assistent|asistente|assistente|chatbot|bot|llm|gpt|language model|summari[sz]er|model|ki|ia)"
_ORDERS: Final = (
    # "ignore the previous instructions" and its kind
    r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,40}\b(?:instruction|prompt|guideline|directive)s?\b",
    r"\b(?:ignore|disregard|forget|override|skip)\b.{0,20}\b(?:all|any|previous|prior|above|other|earlier|preceding|everything)\b.{0,20}\b(?:rule|message|text|context|order|above|before)s?\b",
    r"\b(?:ignorier\w*|vergiss|missachte|uberspringe?)\b.{0,40}\b(?:anweisung|regel|vorgabe|nachricht|befehl|prompt|text)\w*",
    r"\b(?:ignore[rz]?|oublie[rz]?|ne tiens pas compte)\b.{0,40}\b(?:instruction|consigne|regle)s?\b",
    r"\b(?:ignora|ignorad|ignorate|olvida|omite|dimentica|esqueca|negeer)\b.{0,40}\b(?:instruccion|instruco|istruzion|regla|regra|regola|instructie)\w*",
    # the prompt itself, and its control tokens
    r"\b(?:system|hidden|initial|original|your)\s*[-_]?\s*(?:prompt|instructions?)\b",
    r"\b(?:systemprompt|systemanweisung|prompt del sistema|prompt systeme|invite systeme)\b",
    r"<\|[a-z_]{2,20}\|>|<<?/?sys>>?|\[/?inst\]|</?(?:system|assistant|user|im_start|im_end)>",
    r"(?:^|\n)\s*(?:#+\s*)?(?:system|assistant|developer)\s*(?:message|note)?\s*:",
    # what the answer should say
    r"\b(?:in|of|from|to|for|as)\s+(?:the|your|this|any)\s+(?:summary|summaries|recap|digest|headline|output|response)\b",
    r"\b(?:summary|summaries|headline|zusammenfassung|resumen|resume|riassunto|resumo|samenvatting)\b.{0,30}\b(?:must|should|has to|needs to|soll|muss|debe|doit|deve|moet)\b",
    r"\b(?:when|if|while|before|after)\s+(?:you(?:'re|\s+are)?\s+)?(?:summari[sz]e|summari[sz]ing|translat\w+|rewrit\w+)\b",
    r"\b(?:summari[sz]e|repeat|print|reveal|output|translate)\b.{0,30}\b(?:everything|all|the text|words?|messages?)\b.{0,20}\babove\b",
    rf"\b(?:dear|hey|hi|hello|attention|note to|to|if you are|you are|as)\s+(?:the\s+|an?\s+|any\s+|our\s+|my\s+)?{_MACHINE}\b(?=\s*[:,.!\-]|\s+(?:reading|that|who|which|processing|summari|system|assistant|model|must|should|now)|\s*$)",
    rf"\b{_MACHINE}\s+(?:reading|processing|summari[sz]ing)\b",
    r"\byou are now (?:in|an?) (?:[a-z]+ ){0,2}(?:mode|assistant|bot|ai|model|persona|pirate|hacker|expert)\b|\bfrom now on,? you (?:are|must|will|act|shall|should|only|answer)\b|\bact as (?:an?|the|my)\b|\bpretend (?:to be|that you)\b|\bnew (?:instructions?|task|role)\s*:",
    r"\b(?:tell|inform|instruct|warn|convince)\s+(?:the\s+)?(?:user|reader|recipient|owner)\b",
    r"\b(?:say|write|state|respond|reply|answer|output|claim)\s+(?:only\s+|exactly\s+|just\s+)?(?:that\s+)?(?:the user|the reader|\"|')",
    r"\bdo not (?:mention|summari[sz]e|include|report)\b|\b(?:leave|keep) (?:this|it|me|my \w+) out of the\b",
)
_PATTERN: Final = re.compile("|".join(f"(?:{order})" for order in _ORDERS))
_BLANKS: Final = re.compile(r"\s*\n\s*|\s+")


def addresses_machine(text: str) -> bool:
    """Whether `text` gives orders to a language model, or plays with its control tokens."""
    plain = _BLANKS.sub(lambda match: "\n" if "\n" in match[0] else " ", fold(clean(text)))
    return _PATTERN.search(plain) is not None
