"""The chat's title, from the name of its file."""

import re
import unicodedata
from typing import Final

__all__ = ["app_title", "title_of"]

_PREFIX: Final = re.compile(
    "(?:whatsapp[ -]chat (?:with|mit|dengan|-|–)"  # noqa: RUF001 - both dashes occur
    "|chat (?:de |di )?whatsapp (?:con el grupo|con|dengan|-)"
    "|conversa d[oe] whatsapp com|conversa no whatsapp com"
    "|discussion whatsapp avec"
    ") +",
    re.IGNORECASE,
)
# It begins where a run of spaces does: begun at each of them, a long run would take its length squared.
_SUFFIX_HINDI: Final = re.compile(r"(?<! ) +के साथ (?:WhatsApp|व्हाट्सएप) (?:चैट|बातचीत)$", re.IGNORECASE)
_COPY: Final = re.compile(r" ?\(\d{1,3}\)$")
_UNTITLED: Final = frozenset({"", "_chat", "chat", "whatsapp chat"})
_NOT_SHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def app_title(name: str) -> str:
    """The title in a name that the app gave ("WhatsApp Chat with Anna (1).txt" is "Anna"), or an empty string."""
    stem = _stem(name)
    title = _SUFFIX_HINDI.sub("", _PREFIX.sub("", stem, count=1)).strip()
    return title if title != stem else ""


def title_of(name: str) -> str:
    """A title from any file's name, without its ending; empty for names such as "_chat.txt"."""
    stem = app_title(name) or _stem(name)
    return "" if stem.casefold() in _UNTITLED else stem


def _stem(name: str) -> str:
    base = re.split(r"[/\\]", name)[-1]
    stem = re.sub(r"\.(?:txt|zip)$", "", base, flags=re.IGNORECASE)
    # What is not shown is left out, so that a title can be printed and written down.
    shown = "".join(char for char in stem if unicodedata.category(char) not in _NOT_SHOWN or char == "\u200d")
    stem = _COPY.sub("", " ".join(shown.split()))
    # Some mail programs turn the spaces of the app's own name into underscores.
    return stem.replace("_", " ") if re.match(r"\w*whatsapp_", stem, re.IGNORECASE) else stem
