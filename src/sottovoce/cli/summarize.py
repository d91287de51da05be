"""`sottovoce summarize CHAT`."""

from pathlib import Path

import click

from sottovoce.cli.main import Context

__all__ = ["summarize"]


@click.command()
@click.argument("chats", type=click.Path(path_type=Path, dir_okay=False), nargs=-1, required=True)
@click.option(
    "--unread",
    type=click.IntRange(1, 1000),
    default=40,
    show_default=True,
    help="How many of the last messages of each chat.",
)
@click.option(
    "--me", default="", metavar="NAME", help="Your name in the chats: what is asked of you is then marked."
)
@click.option("--quick", is_flag=True, help="Fewer lines.")
@click.option("--verbose", "-v", is_flag=True, help="Show each step and each check.")
@click.pass_obj
def summarize(
    context: Context, *, chats: tuple[Path, ...], unread: int, me: str, quick: bool, verbose: bool
) -> None:
    """Summarise the unread messages of exported chats (.txt or .zip exports of WhatsApp), up to five at once."""
    import asyncio

    from sottovoce.cli import show
    from sottovoce.device.chats import read_chat
    from sottovoce.device.client import Client

    out = show.console()
    imported = []
    for path in chats:
        chat = read_chat(path)
        imported.append(chat)
        for note in chat.notes:
            out.print(f"  note: {note}", style="dim")
        if chat.unparsed:
            lines = ", ".join(map(str, chat.unparsed[:10]))
            out.print(
                f"  {len(chat.unparsed)} lines were not understood and are left out: {lines}", style="yellow"
            )
    asyncio.run(
        show.run(
            out,
            Client(context.home),
            lambda client: client.summarize(*imported, count=unread, reader=me, quick=quick),
            verbose=verbose,
            titles=[chat.title or path.stem for chat, path in zip(imported, chats, strict=True)],
        )
    )
