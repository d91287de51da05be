"""What all features need of a text: cleaning, words, numbers, links, sentences. Everything is linear in the text's length."""

import re
import unicodedata
from typing import Final

__all__ = [
    "ACCOUNT",
    "DATE",
    "LINKS",
    "MAIL",
    "clean",
    "content_words",
    "fold",
    "has_address",
    "has_emoji_only",
    "joined",
    "legible",
    "listed",
    "numbers",
    "one_line",
    "sentences",
    "shorten",
    "spelled_numbers",
    "stem",
    "words",
]

# Controls, bidirectional marks, zero-width characters, tags, variation of direction: what can hide or reorder text.
_HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
_JOINERS: Final = re.compile("[\u200c\u200d\ufe00-\ufe0f\u20e3]")
_SPACE: Final = re.compile(r"\s+")
_WORD: Final = re.compile(r"[^\W\d_]+(?:['\u2019\-][^\W\d_]+)*")
_NUMBER: Final = re.compile(r"\d+(?:[.,:/\-]\d+)*")
_LINK: Final = re.compile(
    r"(?:[a-z][a-z0-9+.\-]{1,20}:/?/|www\.|\b(?:mailto|tel|sms|data|javascript):)", re.IGNORECASE
)
MAIL: Final = re.compile(r"[^\s@]@[^\s@]+\.[^\s@]")
# A label is of any script: browsers take them all.
_DOMAIN: Final = re.compile(
    r"\b[\w\-]{1,63}(?:\.[\w\-]{1,63}){0,4}\.(?:com|net|org|info|biz|io|co|me|app|dev|xyz|top|site|online|shop|"
    r"link|click|live|club|ru|cn|de|uk|fr|es|it|nl|pt|br|pl|in|us|eu|ly|gl|gg|tk|ml|zip|mov|"
    r"ai|tech|edu|gov|store|cloud|page|web|blog|chat|pay|bank|mx|ar|cl|jp|ch|se|dk|fi|ie|ca|au|nz|za|tr|ua|ro|cz|gr|hu|kr|tw|hk|sg|vn|ph|"
    r"id|at|be|my|to|cc|tv|ws|pw|vip|win|icu|bid|support|finance|example|test)\b(?!\w|\.\w)"
    # With a path behind it, or in another script, whatever the last part is; and an address in numbers.
    r"|\b[\w\-]{1,63}(?:\.[\w\-]{1,63}){0,4}\.[^\W\d_]{2,24}/\w"
    r"|\b[\w\-]{1,63}\.[^\W\d_a-z]{2,24}\b"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d|/\w)",
    re.IGNORECASE,
)
LINKS: Final = (_LINK, _DOMAIN)
# An account, a card, a telephone number: seven digits or more, however they are grouped; or an IBAN.
ACCOUNT: Final = re.compile(
    r"(?:\d(?>[.,]|[ ]{0,2}[\-\u2010-\u2015\u2212()/_*\u00b7]?[ ()]{0,2})){6,40}\d|\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3}\b)?"
)
_DAY: Final = r"(?:0?[1-9]|[12]\d|3[01])"
# A date, and not the middle of a number that is written like several.
DATE: Final = re.compile(
    rf"(?<![\d.])(?<!\d[/\-])(?:\d{{4}}-\d{{2}}-\d{{2}}|{_DAY}(?P<sep>[./\-]){_DAY}(?P=sep)(?:(?:19|20)\d\d|\d\d))(?!\d|(?P=sep)\d)"
)
# Not a full stop inside a number or an abbreviation of one letter.
_SENTENCE_END: Final = re.compile(r"(?<=[.!?\u2026\u3002\uff01\uff1f])(?<!\b\w\.)[\"'\u201d\u2019)\]]*\s+")

_STOPWORDS_TEXT: Final = (
    # English, German, French, Spanish, Italian, Portuguese, Dutch: the words that say nothing about the matter
    "the a an and or but if so of to in on at by for from with about as is are was were be been am it its this that these those there "
    "here i you he she we they me him her us them my your his our their mine yours ours do does did have has had will would can could "
    "shall should may might must not no yes ok okay just also too very really then than when what which who how why where all any some "
    "one get got go going let lets now well oh ah hi hey hello dear thanks thank please sorry like know think want need "
    "der die das den dem des ein eine einen einem einer und oder aber wenn so von zu im am auf mit für aus bei als ist sind war waren "
    "es ich du er sie wir ihr mich dich uns euch mein dein sein nicht kein ja nein auch noch schon sehr dann was wer wie wo "
    "le la les un une des et ou mais si de du au aux en dans sur pour avec est sont je tu il elle nous vous ils elles mon ton son ne "
    "pas oui non que qui quoi où "
    "el los las una unos y o pero por para con es son yo tú él ella nosotros ustedes mi su no sí qué quién cómo "
    "il lo gli uno e ma per con è sono io lui lei noi voi loro mio tuo suo non sì che chi come dove "
    "os as um uma e mas do da dos das no na em é são eu ele ela nós eles meu seu não sim quem onde "
    "de het een en maar van naar op met voor is zijn was ik jij hij zij wij jullie niet geen ja nee ook wat wie hoe waar"
)


_THOUSANDS: Final = re.compile(r"(?<=\d)[.,' ](?=\d{3}(?!\d))")
_SPELLED: Final = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
    "eleven": "11", "twelve": "12",
}  # fmt: skip


def clean(text: str) -> str:
    """`text` in form NFC without control, bidirectional and invisible characters; line breaks and tabs stay."""
    composed = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\u2028", "\n"))
    return _HIDDEN.sub("", composed)


def one_line(text: str) -> str:
    """`text` cleaned, every run of white space one space."""
    return _SPACE.sub(" ", clean(text)).strip()


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters of `text`, cut after a word, with "…" where something is missing."""
    if len(text) <= limit:
        return text
    head, _, _ = text[:limit].rpartition(" ")
    return (head or text[: limit - 1]).rstrip(" ,;:-") + "…"


def listed(text: str) -> frozenset[str]:
    """The words of a list that is written as text."""
    return frozenset(text.split())


def fold(text: str) -> str:
    """For comparing only: compatibility forms, lower case, one kind of apostrophe, no accents."""
    decomposed = unicodedata.normalize("NFKD", text.replace("\u2019", "'")).casefold()
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def words(text: str) -> list[str]:
    """The words of `text`, folded, in order."""
    return _WORD.findall(fold(text))


_STOPWORDS: Final = frozenset(words(_STOPWORDS_TEXT))


_ENDINGS: Final = ("ings", "ing", "edly", "ed", "ies", "al", "es", "s", "en", "er", "e", "n", "ly")
_STEM: Final = 4


def stem(word: str) -> str:
    """A crude stem, good enough to see that "meets" and "meeting" are about the same."""
    word = word.removesuffix("'s")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM - 1:
            return word[: -len(ending)]
    return word


def content_words(text: str) -> frozenset[str]:
    """The stems of the words that say what a text is about."""
    return frozenset(stem(word) for word in words(text) if word not in _STOPWORDS and len(word) > 1)


def numbers(text: str) -> frozenset[str]:
    """The numbers of `text`, each also by its parts: "7:30" gives 7:30, 7, 30. Leading zeros do not count."""
    found: set[str] = set()
    for match in _NUMBER.findall(unicodedata.normalize("NFKC", text)):
        parts = [str(int(part[:30])) for part in re.split(r"\D", match)]
        found.update(parts)
        found.add(".".join(parts))
    return frozenset(found)


def spelled_numbers(text: str) -> frozenset[str]:
    """The English number words of `text` from two to twelve, in digits; "one" is too often no number."""
    return frozenset(_SPELLED[word] for word in words(text) if word in _SPELLED)


def joined(text: str) -> str:
    """`text` with the thousands of its numbers joined: 1,000 and 1.000 as 1000."""
    return _THOUSANDS.sub("", text)


def legible(text: str) -> str:
    """`text` as programs that follow links and call numbers read it: compatibility forms, no joiners, one kind of dot."""
    return unicodedata.normalize("NFKC", _JOINERS.sub("", text)).replace("\u3002", ".")


def has_address(text: str) -> bool:
    """Whether `text` holds a link, a domain, an e-mail address, or a telephone or account number."""
    plain = legible(text)
    if MAIL.search(plain) or any(pattern.search(plain) for pattern in LINKS):
        return True
    return ACCOUNT.search(DATE.sub(" ", plain)) is not None


def has_emoji_only(text: str) -> bool:
    """Whether `text` has no letter and no digit."""
    return not any(character.isalnum() for character in text)


def sentences(text: str) -> list[str]:
    """The sentences of `text`; a line break ends one too. Each is a verbatim part of `text`."""
    parts = [part.strip() for line in text.split("\n") for part in _SENTENCE_END.split(line)]
    return [part for part in parts if part]
