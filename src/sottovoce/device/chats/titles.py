"""The chat's title, from the name of its file."""

import re
import unicodedata
from typing import Final

__all__ = ["title_of"]

_PREFIX: Final = re.compile(
    "(?:whatsapp[ -]chat (?:with|mit|dengan|-|–)"  # noqa: RUF001 - both dashes occur
    "|chat (?:de |di )?whatsapp (?:con|con el grupo|dengan)"
    "|conversa d[oe] whatsapp com|conversa no whatsapp com"
    "|discussion whatsapp avec"
    ") +",
    re.IGNORECASE,
)
_SUFFIX_HINDI: Final = re.compile(r" +के साथ (?:WhatsApp|व्हाट्सएप) (?:चैट|बातचीत)$", re.IGNORECASE)
_COPY: Final = re.compile(r" ?\(\d{1,3}\)$")
_UNTITLED: Final = frozenset({"", "_chat", "chat", "whatsapp chat"})
_NOT_SHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def title_of(name: str) -> str:
    """The title in a file's name ("WhatsApp Chat with Anna (1).txt" is "Anna"); empty where it has none.

    Characters that are not shown are left out, so that a title can be printed and written down.
    """
    base = re.split(r"[/\\]", name)[-1]
    stem = re.sub(r"\.(?:txt|zip)$", "", base, flags=re.IGNORECASE)
    shown = "".join(char for char in stem if unicodedata.category(char) not in _NOT_SHOWN or char == "\u200d")
    spaced = " ".join(shown.split())
    without_copy = _COPY.sub("", spaced)
    # Some mail programs turn the spaces of the app's own name into underscores.
    readable = (
        without_copy.replace("_", " ")
        if re.match(r"\w*whatsapp_", without_copy, re.IGNORECASE)
        else without_copy
    )
    title = _SUFFIX_HINDI.sub("", _PREFIX.sub("", readable, count=1)).strip()
    return "" if title.casefold() in _UNTITLED else title
