"""What runs a language model: one small interface, and the embedded engine behind it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from sottovoce.core.errors import SottovoceError
from sottovoce.tee.engines.grammar import LineGrammar

__all__ = ["Engine", "EngineError", "Prompt", "Sampling", "Turn"]


class EngineError(SottovoceError):
    """The engine failed in the middle of an answer."""

    code = "service.engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A fixed prompt: what the model is told, and examples as (user, model) turns."""

    system: str
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Turn:
    """What one side of a conversation says."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Sampling:
    """How the next token is chosen, among those that `grammar` allows. Temperature 0 takes the likeliest, and the rest then counts for nothing."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 0.9
    seed: int = 0
    grammar: LineGrammar | None = None
    """For what is written after the opening."""


class Engine(Protocol):
    """A loaded model with its fixed prompts evaluated. Made once, inherited by every session's process."""

    @property
    def name(self) -> str:
        """The model's name, for the answer."""

    def count(self, turns: Sequence[Turn]) -> int:
        """How many tokens `turns` are, the marks of their roles included."""

    def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, prompt: str = "", opening: str = ""
    ) -> Iterator[str]:
        """The model's answer to `turns`, after the fixed prompt called `prompt` if one is named: the text of each token, which may be empty.

        What `turns` and `opening` say is data: nothing in it can become a control token. The answer begins with `opening`.
        """
