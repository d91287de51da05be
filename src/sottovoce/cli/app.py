"""`sottovoce app`: chats, summaries and writing help in the browser."""

from collections.abc import Callable

import click

from sottovoce.cli.main import Context

__all__ = ["app"]


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0: any that is free."
)
@click.pass_obj
def app(context: Context, port: int) -> None:
    """Show chats in the browser, and ask for summaries and for help with wording there.

    Only the browser that opens the link can use it, and each link opens once; Enter prints another. Chats are gone when it ends, unless you
    have them kept. Stop with Ctrl-C.
    """
    import asyncio
    import resource

    from sottovoce.app.serving import serve

    # A crash must not write chats to the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asyncio.run(serve(context.home, port, _show))
    # It ends when it is told to.
    raise KeyboardInterrupt


def _show(link: Callable[[], str]) -> None:
    import asyncio
    import sys

    def another() -> None:
        if not sys.stdin.readline():
            asyncio.get_running_loop().remove_reader(sys.stdin)
            return
        click.echo(f"    {link()}")

    click.echo("The app is here, on this machine alone. The link opens it once; Enter prints another one.\n")
    # Not given to a browser by us: what a command line holds, every user of the machine can read.
    click.echo(f"    {link()}\n")
    click.echo("Ctrl-C stops it.")
    if sys.stdin.isatty():
        asyncio.get_running_loop().add_reader(sys.stdin, another)
