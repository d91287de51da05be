"""A group of commands that judge something: 0 good, 1 not good, 2 unusable input, 3 wrong use, in place of the exit codes of the others."""

import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sottovoce.core.errors import SottovoceError

__all__ = ["GOOD", "NOT_GOOD", "UNUSABLE", "WRONG_USE", "Judging"]

GOOD, NOT_GOOD, UNUSABLE, WRONG_USE = 0, 1, 2, 3


class Judging(click.Group, ABC):
    """Gives errors these exit codes."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """As click does, with the exit code of wrong use."""
        try:
            return super().make_context(*args, **more)
        except click.UsageError as error:
            error.show()
            sys.exit(WRONG_USE)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, with these exit codes."""
        from sottovoce.attest.verdict import printable
        from sottovoce.core.errors import SottovoceError

        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            error.show()
            sys.exit(WRONG_USE)
        except SottovoceError as error:
            click.echo(printable(f"sottovoce: {error} [{error.code}]"), err=True)
            if error.hint:
                click.echo(printable(f"  {error.hint}"), err=True)
            sys.exit(NOT_GOOD if self.is_verdict(error) else UNUSABLE)

    @abstractmethod
    def is_verdict(self, error: "SottovoceError") -> bool:
        """Whether `error` says that what was judged is not good, and not that the input cannot be used."""
