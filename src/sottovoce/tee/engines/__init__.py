"""What runs a language model: one small interface, and the embedded engine behind it."""

from collections.abc import Iterator
from typing import Protocol

__all__ = ["Engine"]


class Engine(Protocol):
    """A loaded model with its fixed prompts evaluated. Made once, inherited by every session's process."""

    @property
    def name(self) -> str:
        """The model's name, for the answer."""

    def generate(
        self, prompt: str, text: str, *, max_tokens: int, temperature: float, seed: int
    ) -> Iterator[str]:
        """The model's continuation of the fixed prompt called `prompt`, with `text` as the user's turn.

        `text` is data: nothing in it can become a control token. Temperature 0 is greedy.
        """
