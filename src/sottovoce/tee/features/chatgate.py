"""The gate that a free answer goes through: whoever wrote the question answers for what it says, but no address leaves that was not in it.

A link, an e-mail address, a telephone or account number that none of the messages has can only be made up by the model, or put together by somebody
whose text is among them (threats, section C). It is replaced, so that the rest can be read.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from sottovoce.tee.features.text import clean, has_address

__all__ = ["REMOVED", "ChatGate"]

REMOVED: Final = "[removed]"
_TOKEN: Final = re.compile(r"\s*\S+(?=\s)")
_GROUPS: Final = re.compile(r"\d[\d \-()./+]*$")
_EDGES: Final = ".,;:!?()[]{}<>\"'\u201c\u201d\u2018\u2019`*_"
_LONGEST: Final = 2000
"""Characters without white space; no language's word and no link that people send is as long."""
_BEFORE: Final = 40
"""Characters before a word that may be the beginning of the same number."""


class ChatGate:
    """Takes pieces, gives what may leave: whole words."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._known = {bare for text in sources for bare in _bare_words(text)}
        self._held = ""
        self._before = ""
        self.removed = 0

    def feed(self, piece: str) -> str:
        """What may leave, now that `piece` has come."""
        self._held += piece
        said, at = [], 0
        for match in _TOKEN.finditer(self._held):
            said.append(self._judge(match[0]))
            at = match.end()
        self._held = self._held[at:]
        if len(self._held) > _LONGEST:
            said.append(self._judge(self._held))
            self._held = ""
        return "".join(said)

    def end(self) -> str:
        """What may leave of the rest."""
        held, self._held = self._held, ""
        return self._judge(held) if held.strip() else clean(held)

    def _judge(self, token: str) -> str:
        word = token.lstrip()
        space = clean(token[: len(token) - len(word)])
        if len(word) > _LONGEST or self._is_new_address(word):
            self.removed += 1
            self._before = ""
            return space + REMOVED
        self._before = f"{self._before} {word}"[-_BEFORE:]
        return space + clean(word)

    def _is_new_address(self, word: str) -> bool:
        if _bare_words(word) <= self._known:
            return False
        grouped = _GROUPS.search(f"{self._before} {word}")
        return has_address(word) or (grouped is not None and has_address(grouped[0]))


def _bare_words(text: str) -> set[str]:
    plain = unicodedata.normalize("NFKC", clean(text)).casefold()
    return {bare for word in plain.split() if (bare := word.strip(_EDGES))}
