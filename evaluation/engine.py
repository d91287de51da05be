"""The embedded default model for the evaluation: deterministic, and what it has said to a question once is not computed again."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from sottovoce.cli.model import default_folder
from sottovoce.simulator.models import DEFAULT
from sottovoce.tee.engines import Engine, Sampling, Turn
from sottovoce.tee.engines.llama import LlamaEngine
from sottovoce.tee.features.prompts import PROMPTS

__all__ = ["CachedEngine", "NoModelError", "Silent"]

CACHE: Final = Path(__file__).parent / "said.jsonl"
"""What the model has said, with the question's digest: it comes with the project, so that what is made of it can be measured again within minutes."""


def _key(asked: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(asked).encode("utf-8", "surrogatepass")).hexdigest()


class NoModelError(Exception):
    """The default model is not here."""


class Silent:
    """An engine that says nothing: for what is done without a model."""

    name = "none"

    def count(self, turns: Sequence[Turn]) -> int:
        """As `Engine.count`."""
        return 0 * len(turns)

    def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, prompt: str = "", opening: str = ""
    ) -> Iterator[str]:
        """Nothing, whatever is asked."""
        del turns, sampling, prompt, opening
        return iter(())


class CachedEngine:
    """The default model, with its answers kept in a file: a run that was interrupted goes on where it was."""

    def __init__(self, path: Path = CACHE, *, threads: int = 2) -> None:
        """Open the model and the file.

        Raises:
            NoModelError: fetch the model first.
        """
        model = default_folder() / DEFAULT.file
        if not model.exists():
            raise NoModelError("the default model is not here: sottovoce model fetch")
        self._fd = os.open(model, os.O_RDONLY)
        self._threads = threads
        self._engine: Engine | None = None
        self.name: Final = DEFAULT.name
        self._said: dict[str, list[str]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                key, pieces = json.loads(line)
                self._said[key] = pieces
        self._file = path.open("a")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        os.close(self._fd)

    @property
    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = LlamaEngine(self._fd, name=self.name, threads=self._threads, prompts=PROMPTS)
        return self._engine

    def count(self, turns: Sequence[Turn]) -> int:
        """As `Engine.count`."""
        return sum(len(turn.text.split()) for turn in turns)

    def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, prompt: str = "", opening: str = ""
    ) -> Iterator[str]:
        """As `Engine.generate`."""
        fixed = PROMPTS.get(prompt)
        asked = [
            self.name,
            [fixed.system, fixed.examples] if fixed else [],
            [[turn.role, turn.text] for turn in turns],
            opening,
            [sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed],
        ]
        key = _key(asked)
        if (grammar := sampling.grammar) is not None:
            if not sampling.temperature:
                # What is said without a grammar and is of its form would have been said with it, token by token.
                free = list(
                    self.generate(turns, replace(sampling, grammar=None), prompt=prompt, opening=opening)
                )
                if grammar.accepts("".join(free).removeprefix(opening)):
                    return iter(free)
            key = _key([*asked, grammar.gbnf])
        if key not in self._said:
            # Read to its end, wherever its reader stops: what is kept must not depend on who asked first.
            self._said[key] = list(self._loaded.generate(turns, sampling, prompt=prompt, opening=opening))
            self._file.write(json.dumps([key, self._said[key]]) + "\n")
            self._file.flush()
        return iter(self._said[key])
