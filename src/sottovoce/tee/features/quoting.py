"""What of a message may be quoted: a summary leads nowhere but to the messages that it cites.

A link, an e-mail address, a telephone, card or account number, a password: whoever needs one opens the message. So nobody can use a summary to send its reader
somewhere, and none of these stands in one place more than it did (threats, section C).
"""

import re
import unicodedata
from typing import Final

from sottovoce.tee.features.text import ACCOUNT, LINKS, MAIL, clean, has_address

__all__ = ["LEFT_OUT", "quotable"]

_LINK, _MAIL, _NUMBER, _SECRET = "[link]", "[e-mail]", "[number]", "[secret]"
LEFT_OUT: Final = (_LINK, _MAIL, _NUMBER, _SECRET)
"""What stands in the place of what is left out."""
_TOKEN: Final = re.compile(r"[^\s<>\"'()\[\]{}\u201c\u201d\u201e\u00ab\u00bb]+")
_ENDS: Final = ".,;:!?\u2026"
# Many digits that nobody can call or pay to: dates, times, years, amounts.
_COUNTED: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}|\d{1,2}[./\-]\d{1,2}[./\-](?:\d{4}|\d{2})(?!\d)|(?<!\d)\d{1,2}[.:h]\d{2}(?![.\d])|(?<!\d)(?:19|20)\d\d(?!\d)"
    r"|(?<!\d)(\d{2,5})-\1(?!\d)"
    r"|(?:[\u20ac$\u00a3\u20b9]|\b(?:eur|usd|inr|brl|idr|rs|rp))\.?\s*\d[\d.,' ]*\d"
    r"|(?<![\d.,+])\d{1,3}(?:[.,' ]\d{3})+(?:[.,]\d{1,2})?\s*(?:[\u20ac$\u00a3\u20b9]|(?:eur|euros?|usd|rupees|rupiah|reais|people|km|m2)\b)",
    re.IGNORECASE,
)
# What is said of a secret before it: "the PIN is 4821", "Passwort: sonnenblume".
_NAMED: Final = re.compile(
    r"\b(?:pass(?:word|wort|code|phrase)|kennwort|contrase[n\u00f1]a|senha|mot de passe|mdp|(?:kata )?sandi|parola|wachtwoord|pin|cvv|cvc|otp"
    r"|(?:verification|security|one[- ]time|login) code|\u092a\u093e\u0938\u0935\u0930\u094d\u0921|\u092a\u093f\u0928)\b"
    r"(?:(?: (?:is|ist|es|\u00e9|e|est|adalah|now|jetzt|ahora|agora|still|\u0939\u0948))*\s*[:=]?\s*(?P<coded>(?=[^\s\d]*\d)[^\s,;!?]{3,})|\s*[:=]\s*(?P<word>[^\s,;]{3,}))",
    re.IGNORECASE,
)


def quotable(text: str) -> str:
    """`text` cleaned, with a word in brackets where an address, a number that leads somewhere or a secret stood.

    What has been left out stays out: `quotable(quotable(text))` is `quotable(text)`.
    """
    plain = clean(text)
    if has_address(plain):
        # Full-width digits and their kind are read as what they stand for.
        plain = _numbers(_addresses(unicodedata.normalize("NFKC", plain)))
        plain = _addresses(plain)  # a number may have hidden where a domain ends
    return _NAMED.sub(_secret, plain)


def _addresses(text: str) -> str:
    return _TOKEN.sub(_address, text)


def _address(match: re.Match[str]) -> str:
    token = match[0]
    bare = token.rstrip(_ENDS)
    if MAIL.search(bare) and "://" not in bare:
        return _MAIL + token[len(bare) :]
    return _LINK + token[len(bare) :] if any(pattern.search(bare) for pattern in LINKS) else token


def _numbers(text: str) -> str:
    # What only counts is hidden from the pattern, at its length, so that what is found stands at the same place.
    seen = _COUNTED.sub(lambda match: "#" * len(match[0]), text)
    parts, at = [], 0
    for match in ACCOUNT.finditer(seen):
        parts += [text[at : match.start()].removesuffix("+"), _NUMBER]
        at = match.end()
    return "".join([*parts, text[at:]])


def _secret(match: re.Match[str]) -> str:
    value = match["coded"] or match["word"]
    return match[0] if value in LEFT_OUT else match[0].removesuffix(value) + _SECRET
