"""`sottovoce rewrite DRAFT`."""

from pathlib import Path

import click

from sottovoce.cli.main import Context

__all__ = ["rewrite"]

_STYLES = ("professional", "rephrase", "proofread", "supportive", "funny", "shorten")


@click.command()
@click.argument("draft")
@click.option("--style", type=click.Choice(_STYLES), default="rephrase", show_default=True)
@click.option(
    "--context",
    "chat",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Send the last messages of this exported chat as well. Without it, only the draft leaves.",
)
@click.option(
    "--last",
    type=click.IntRange(1, 6),
    default=6,
    show_default=True,
    help="How many of them.",
)
@click.option("--verbose", "-v", is_flag=True, help="Show each step and each check.")
@click.pass_obj
def rewrite(context: Context, *, draft: str, style: str, chat: Path | None, last: int, verbose: bool) -> None:
    """Suggest up to three other wordings of DRAFT ("-" reads it from standard input)."""
    import asyncio
    import sys

    from sottovoce.cli import show
    from sottovoce.device.chats import read_chat
    from sottovoce.device.client import Client

    text = sys.stdin.read() if draft == "-" else draft
    before = read_chat(chat) if chat is not None else None
    asyncio.run(
        show.run(
            show.console(),
            Client(context.home),
            lambda client: client.rewrite(text, style, context=before, count=last),
            verbose=verbose,
        )
    )
