"""The form in which an engine may write at all: one line without links, markup, marks of a template and other lines.

A token that would leave the form is never chosen, so nothing has to be taken back. The guard judges what is written all the same: it trusts
neither the engine nor this, and knows more ways of writing an address.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

__all__ = ["LineGrammar"]

# A list of what may stand and not of what may not: a class that leaves characters out also refuses the first byte of others (llama.cpp).
# Missing are control characters, other lines, markup, what makes an address, and the signs of full width that stand for those.
_PLAIN: Final = (
    r"[!\x22$-)+,;?A-Za-z\-\u00A0-\u2023\u2025-\u2027\u202F-\u3001\u3003-\uFEFE\U00010000-\U0010FFFF]"
)
_MARK: Final = "[,;!?)\x22'\u2019\u201d\u00bb\u2026]"
_AFTER_STOP: Final = "[!?)\x22'\u2019\u201d\u00bb\u2026]"
_ANY, _BLANK = "[0-9]", "[ ]"

# From state to state by what is written. A text may end in each of them, so that any token may be the last.
_STATES: Final = {
    "start": (("literal", "whole"), ("plain", "word"), ("blank", "start"), ("number", "digits"), ("full-stop", "stop"), ("double-stop", "colon")),
    "word": (("plain", "word"), ("blank", "start"), ("number", "digits"), ("full-stop", "stop"), ("double-stop", "colon")),
    "digits": (("plain", "word"), ("blank", "start"), ("full-stop", "stop"), ("double-stop", "colon")),
    # Nothing is hung on to a word that stands for itself.
    "whole": (("mark", "whole"), ("blank", "start"), ("full-stop", "stop"), ("double-stop", "colon")),
    # A letter behind it would be a domain's; behind a colon, a scheme's or a label's.
    "stop": (("after-stop", "stop"), ("blank", "start"), ("number", "digits"), ("full-stop", "stop")),
    "colon": (("blank", "start"), ("number", "digits")),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, repr=False)
class LineGrammar:
    """One line.

    Attributes:
        numbers: the runs of digits that may stand in it; None for any.
        literals: words that may stand in it although they are of another form, none of them empty.
    """

    numbers: frozenset[str] | None = None
    literals: frozenset[str] = frozenset()

    @cached_property
    def gbnf(self) -> str:
        """The grammar as llama.cpp and xgrammar read it."""
        digits = _ANY if self.numbers is None else _choice(self.numbers)
        terminals = {
            "plain": _PLAIN,
            "literal": _choice(self.literals),
            "number": digits,
            "full-stop": '"."',
            "double-stop": '":"',
            "mark": _MARK,
            "after-stop": _AFTER_STOP,
            "blank": _BLANK,
        }
        rules = [f"{name} ::= {written}" for name, written in terminals.items() if written]
        for state, ways in _STATES.items():
            known = [(terminal, after) for terminal, after in self._ways(ways) if terminals[terminal]]
            rules.append(f"{state} ::= " + " | ".join(f"{terminal} {after}?" for terminal, after in known))
        return "\n".join(["root ::= start?", *rules]) + "\n"

    def accepts(self, text: str) -> bool:
        """Whether `text` is of the form."""
        reached: list[set[str]] = [set() for _ in range(len(text) + 1)]
        reached[0].add("start")
        for at, states in enumerate(reached[:-1]):
            for state in states:
                for terminal, after in self._ways(_STATES[state]):
                    for end in self._ends(terminal, text, at):
                        reached[end].add(after)
        return bool(reached[-1])

    def _ways(self, ways: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
        # Digits of any number need not be told apart.
        free = self.numbers is None
        return [(terminal, "word" if after == "digits" and free else after) for terminal, after in ways]

    def _ends(self, terminal: str, text: str, at: int) -> list[int]:
        known = {"literal": self.literals, "number": self.numbers}.get(terminal)
        if known is not None:
            return [at + len(one) for one in known if text.startswith(one, at)]
        return [at + 1] if _TERMINALS[terminal].match(text, at) else []


_TERMINALS: Final = {
    "plain": re.compile(_PLAIN),
    "number": re.compile(_ANY),
    "full-stop": re.compile(r"\."),
    "double-stop": re.compile(":"),
    "mark": re.compile(_MARK),
    "after-stop": re.compile(_AFTER_STOP),
    "blank": re.compile(_BLANK),
}


def _choice(words: frozenset[str]) -> str:
    return " | ".join('"' + re.sub(r'["\\]', r"\\\g<0>", word) + '"' for word in sorted(words))
