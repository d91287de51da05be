"""What of a message may be quoted: a summary leads nowhere but to the messages that it cites.

A link, an e-mail address, a telephone, card or account number, a password: whoever needs one opens the message. So nobody can use a summary to send its reader
somewhere, and none of these stands in one place more than it did (threats, section C).
"""

import re
import string
from typing import Final

from sottovoce.tee.features.text import ACCOUNT, DATE, LINKS, MAIL, clean, has_address, legible

__all__ = ["LEFT_OUT", "quotable"]

_LINK, _MAIL, _NUMBER, _SECRET = "[link]", "[e-mail]", "[number]", "[secret]"
LEFT_OUT: Final = (_LINK, _MAIL, _NUMBER, _SECRET)
"""What stands in the place of what is left out."""
_TOKEN: Final = re.compile(r"[^\s<>\"'()\[\]{}\u201c\u201d\u201e\u00ab\u00bb]+")
_WORD: Final = re.compile(r"\S+")
_OF_ADDRESSES: Final = frozenset(string.ascii_letters + string.digits + "._%+-@")
_ENDS: Final = ".,;:!?\u2026"
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.\-]{1,20}://\S", re.IGNORECASE)
# Many digits that nobody can call or pay to: times, years, the same amount twice, amounts of money and people.
_COUNTED: Final = re.compile(
    r"(?<![\d.])\d{1,2}[.:h]\d{2}(?![.\d])|(?<!\d)(?:19|20)\d\d(?!\d)"
    r"|(?<![\d\-])(\d{2,5})-\1(?![\d\-])"
    r"|(?:[\u20ac$\u00a3\u20b9]|\b(?:eur|usd|inr|brl|idr|rs|rp))\.?[ ]?\d{1,3}(?:[.,' ]?\d{3}){0,2}(?:[.,]\d{1,2})?(?![.,' ]?\d)"
    r"|(?<![\d.,+])\d{1,3}(?:[.,]\d{3}){1,3}(?![.,\-]?\d)"
    r"|(?<![\d.,+])(?<!\d[ '])\d{1,3}(?:[' ]?\d{3}){1,2}[ ]?(?:[\u20ac$\u00a3\u20b9]|(?:eur|euros?|usd|fcfa|rupees|rupiah|reais|people|km|m2)\b)",
    re.IGNORECASE,
)
_PASSES: Final = 6
"""Times that a text is gone over at most: what is left out may show where the next address, number or secret begins."""
_FEW: Final = 3
"""Digits beside what is counted that make no number of an account."""
# What is said of a secret before it: "the PIN is 4821", "Passwort: sonnenblume".
_NAMED: Final = re.compile(
    r"\b(?:pass(?:word|wort|code|phrase)|pwd?|kennwort|contrase[n\u00f1]a|clave|senha|mot de passe|mdp|kata sandi|sandi(?= (?:wifi|akun))|parola|wachtwoord|pin|cvv|cvc|otp"
    r"|(?:verification|security|one[- ]time|login) code|\u092a\u093e\u0938\u0935\u0930\u094d\u0921|\u092a\u093f\u0928)\b"
    r"(?: (?:du|do|del|da|f\u00fcr|for|the|wi-?fi|wlan|akun)\b){0,3}(?: (?:is|ist|lautet|es|\u00e9|e|est|adalah|now|jetzt|neu|ahora|agora|still|\u0939\u0948)\b){0,3}"
    r"(?:\s*(?:[:=]\s*)?(?P<coded>(?!\d+(?:st|nd|rd|th|[ap]m)\b)(?=[^\s\d]{0,64}\d)[^\s,;!?]{3,})|\s*[:=]\s*(?P<word>[^\s,;?]{3,}(?![^.!\n]{0,40}\?)))",
    re.IGNORECASE,
)


def quotable(text: str) -> str:
    """`text` cleaned, with a word in brackets where an address, a number that leads somewhere or a secret stood.

    What has been left out stays out: `quotable(quotable(text))` is `quotable(text)`.
    """
    plain, before = clean(text), None
    for _ in range(_PASSES):
        if plain == before:
            break
        before, plain = plain, _left_out(plain)
    return plain


def _left_out(plain: str) -> str:
    if has_address(plain):
        plain = _numbers(_addresses(legible(plain)))
    return _NAMED.sub(_secret, plain)


def _addresses(text: str) -> str:
    return _WORD.sub(_word, text)


def _word(match: re.Match[str]) -> str:
    word = match[0]
    scheme = _SCHEME.search(word)
    end = word[len(word.rstrip(_ENDS + ")")) :]
    if scheme is None:
        left = _TOKEN.sub(_address, word)
        return _MAIL + end if MAIL.search(left) else left  # brackets in the middle of it
    # From the first character that an address may have, so that no piece of one is left, to the next blank: a quotation mark or a bracket does not end what is followed.
    begin = scheme.start()
    while begin and word[begin - 1] in _OF_ADDRESSES:
        begin -= 1
    return _TOKEN.sub(_address, word[:begin]) + _LINK + end


def _address(match: re.Match[str]) -> str:
    token = match[0]
    bare = token.rstrip(_ENDS)
    if MAIL.search(bare):
        return _MAIL + token[len(bare) :]
    return _LINK + token[len(bare) :] if any(pattern.search(bare) for pattern in LINKS) else token


def _numbers(text: str) -> str:
    # Dates are hidden from the pattern, at their length, so that what is found stands at the same place.
    seen = DATE.sub(_hidden, text)
    parts, at = [], 0
    for match in ACCOUNT.finditer(seen):
        if match[0][:1].isdigit() and sum(map(str.isdigit, _COUNTED.sub(_hidden, match[0]))) < _FEW:
            continue
        if _is_amount(text, match):
            continue
        parts += [text[at : match.start()].removesuffix("+"), _NUMBER]
        at = match.end()
    return "".join([*parts, text[at:]])


def _is_amount(text: str, match: re.Match[str]) -> bool:
    """Whether all of it is counted together with the sign or the unit beside it."""
    around = text[max(0, match.start() - 5) : match.end() + 10]
    return any(
        match[0].strip() in counted[0]
        for counted in _COUNTED.finditer(around)
        if len(counted[0]) > len(match[0].strip())
    )


def _hidden(match: re.Match[str]) -> str:
    return "#" * len(match[0])


def _secret(match: re.Match[str]) -> str:
    value = match["coded"] or match["word"]
    return match[0] if value in LEFT_OUT else match[0].removesuffix(value) + _SECRET
