"""The words of attest's errors: what `error-words.txt` lists, and what the code says.

A line is a message, with its hint behind " | " where it has one, and `{}` where a name or a number stands. So each says exactly what
somebody has read and found clear, and holds nothing of what a peer sent.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import sottovoce
from sottovoce.attest.tdx.signatures import REASONS
from sottovoce.core.errors import SottovoceError, VerificationError

WORDS: Final = Path(__file__).with_name("error-words.txt")


def line(message: str, hint: str) -> str:
    """The line of an error."""
    return f"{message} | {hint}" if hint else message


@cache
def listed() -> "re.Pattern[str]":
    """What an error may say."""
    lines = WORDS.read_text().splitlines()
    return re.compile("|".join(re.escape(line).replace(r"\{\}", "[^\n]+") for line in lines))


@cache
def cased() -> dict[str, str]:
    """The lines without a name or number in them, by their letters in any case: these are never taken for a line with one."""
    return {one.casefold(): one for one in WORDS.read_text().splitlines() if "{}" not in one}


def said() -> set[str]:
    """What all errors that attest makes say, in the form of a line."""
    folder = Path(next(iter(sottovoce.__path__))) / "attest"
    return {words for path in folder.rglob("*.py") for words in _of(path.read_text())} | REASONS


def _of(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    constants = {
        ast.unparse(node.target): node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant | ast.JoinedStr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Error", "super().__init__")):
            hint = next((given.value for given in node.keywords if given.arg == "hint"), ast.Constant(""))
            for message in _words(node.args[0], constants) if node.args else ():
                for text in _words(hint, constants):
                    yield line(message, text)


def _words(node: ast.expr, constants: Mapping[str, ast.expr]) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _words(value, constants)
    elif isinstance(node, ast.Name) and node.id in constants:
        yield from _words(constants[node.id], constants)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "HINTS.get":
        yield "{}"


@contextmanager
def checked() -> Iterator[None]:
    """Every error that attest makes meanwhile says, word for word, what is listed."""
    made = SottovoceError.__init__

    def check(self: SottovoceError, message: str, *, hint: str = "") -> None:
        maker = sys._getframe(2 if isinstance(self, VerificationError) else 1).f_globals["__name__"]
        if maker.startswith("sottovoce.attest."):
            words = line(message, hint)
            assert listed().fullmatch(words), f"not in tests/error-words.txt: {words}"
            assert cased().get(words.casefold(), words) == words, f"in other letters: {words}"
        made(self, message, hint=hint)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SottovoceError, "__init__", check)
        yield
