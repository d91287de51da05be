"""`sottovoce summarize CHAT`."""

from pathlib import Path

import click

from sottovoce.cli.main import Context

__all__ = ["summarize"]


@click.command()
@click.argument("chat", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--unread",
    type=click.IntRange(1, 1000),
    default=40,
    show_default=True,
    help="How many of the last messages.",
)
@click.option("--verbose", "-v", is_flag=True, help="Show each step and each check.")
@click.pass_obj
def summarize(context: Context, chat: Path, unread: int, verbose: bool) -> None:  # noqa: FBT001 - a flag
    """Summarise the unread messages of an exported chat (a .txt or .zip export of WhatsApp)."""
    import asyncio

    from sottovoce.cli import show
    from sottovoce.device.chats import read_chat
    from sottovoce.device.client import Client

    out = show.console()
    imported = read_chat(chat)
    for note in imported.notes:
        out.print(f"  note: {note}", style="dim")
    if imported.unparsed:
        lines = ", ".join(map(str, imported.unparsed[:10]))
        out.print(
            f"  {len(imported.unparsed)} lines were not understood and are left out: {lines}", style="yellow"
        )
    asyncio.run(
        show.run(
            out, Client(context.home), lambda client: client.summarize(imported, unread), verbose=verbose
        )
    )
