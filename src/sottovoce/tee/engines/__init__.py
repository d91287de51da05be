"""What runs a language model: one small interface, and the embedded engine behind it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Engine", "Prompt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A fixed prompt: what the model is told, and examples as (user, model) turns."""

    system: str
    examples: tuple[tuple[str, str], ...] = ()


class Engine(Protocol):
    """A loaded model with its fixed prompts evaluated. Made once, inherited by every session's process."""

    @property
    def name(self) -> str:
        """The model's name, for the answer."""

    def generate(
        self,
        prompt: str,
        text: str,
        *,
        max_tokens: int,
        opening: str = "",
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """The model's answer to the fixed prompt called `prompt`, with `text` as the user's turn.

        `text` is data: nothing in it can become a control token. The answer begins with `opening`. Temperature 0 is greedy.
        """
