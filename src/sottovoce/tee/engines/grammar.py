"""The form in which an engine may write at all: one line in which no link, no mark of a template and no list can be said.

A token that would leave the form is never chosen, so nothing has to be taken back. The guard judges what is written all the same: it trusts
neither the engine nor this.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

__all__ = ["LineGrammar"]

# No control character, no other line, nothing that marks up or makes an address.
_LEFT_OUT: Final = r"\x00-\x1F\x7F-\x9F\u2028\u2029<>{}|\[\]`*#\\~^=_@/"
_PLAIN: Final = rf"[^{_LEFT_OUT}.:0-9]"
_AFTER_STOP: Final = "[ \"')!?\u2019\u201d\u00bb\u2026]"
_ANY, _BLANK = "[0-9]", "[ ]"

# From state to state by what is written. A text may end in each of them, so that any token may be the last.
_TEXT, _DIGITS, _STOP, _COLON = "text", "digits", "stop", "colon"
_STATES: Final = {
    _TEXT: (
        ("plain", _TEXT),
        ("literal", _TEXT),
        ("number", _DIGITS),
        ("full-stop", _STOP),
        ("double-stop", _COLON),
    ),
    _DIGITS: (("plain", _TEXT), ("full-stop", _STOP), ("double-stop", _COLON)),
    # A letter behind it would be a domain's; behind a colon, a scheme's or a label's.
    _STOP: (("after-stop", _TEXT), ("number", _DIGITS), ("full-stop", _STOP)),
    _COLON: (("blank", _TEXT), ("number", _DIGITS)),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class LineGrammar:
    """One line.

    Attributes:
        numbers: the runs of digits that may stand in it; None for any.
        literals: words that may stand in it although they are of another form, none of them empty.
    """

    numbers: frozenset[str] | None = None
    literals: frozenset[str] = frozenset()

    @property
    def has_content(self) -> bool:
        """Whether it says something of a session's text. Who keeps what it compiles must not be given it."""
        return self.numbers is not None or bool(self.literals)

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
            "after-stop": _AFTER_STOP,
            "blank": _BLANK,
        }
        rules = [f"{name} ::= {written}" for name, written in terminals.items() if written]
        for state, ways in _STATES.items():
            known = " | ".join(
                f"{terminal} {after}?" for terminal, after in self._ways(ways) if terminals[terminal]
            )
            rules.append(f"{state} ::= {known}")
        return "\n".join([f"root ::= {_TEXT}?", *rules]) + "\n"

    def accepts(self, text: str) -> bool:
        """Whether `text` is of the form."""
        reached: list[set[str]] = [set() for _ in range(len(text) + 1)]
        reached[0].add(_TEXT)
        for at, states in enumerate(reached[:-1]):
            for state in states:
                for terminal, after in self._ways(_STATES[state]):
                    for end in self._ends(terminal, text, at):
                        reached[end].add(after)
        return bool(reached[-1])

    def _ways(self, ways: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
        # Digits of any number need not be told apart.
        return [
            (terminal, _TEXT if after == _DIGITS and self.numbers is None else after)
            for terminal, after in ways
        ]

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
    "after-stop": re.compile(_AFTER_STOP),
    "blank": re.compile(_BLANK),
}


def _choice(words: frozenset[str]) -> str:
    return " | ".join('"' + re.sub(r'["\\]', r"\\\g<0>", word) + '"' for word in sorted(words))
