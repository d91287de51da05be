"""The words of attest's errors: what `error-words.txt` lists, and what the code says.

A line is a message or a hint, with `{}` where a name or a number stands. So each says exactly what somebody has read and found clear, and
holds nothing of what a peer sent.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import sottovoce
from sottovoce.attest.tdx.signatures import REASONS

WORDS: Final = Path(__file__).with_name("error-words.txt")


@cache
def listed() -> "re.Pattern[str]":
    """What an error may say."""
    lines = WORDS.read_text().splitlines()
    return re.compile("|".join(re.escape(line).replace(r"\{\}", "[^\n]+") for line in lines))


def said() -> set[str]:
    """What all errors that attest makes say, in the form of a line."""
    folder = Path(next(iter(sottovoce.__path__))) / "attest"
    return {words for path in folder.rglob("*.py") for words in _of(path.read_text())} | REASONS


def _of(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target).endswith("_HINT") and node.value:
            yield from _words(node.value)
        if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith(
            ("Error", "super().__init__")
        ):
            continue
        for value in (*node.args[:1], *(given.value for given in node.keywords if given.arg == "hint")):
            yield from _words(value)


def _words(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _words(value)
