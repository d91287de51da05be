"""`sottovoce rewrite DRAFT`."""

import click

from sottovoce.cli.main import Context

__all__ = ["rewrite"]

_STYLES = ("professional", "rephrase", "proofread", "supportive", "funny", "shorten")


@click.command()
@click.argument("draft")
@click.option("--style", type=click.Choice(_STYLES), default="rephrase", show_default=True)
@click.option("--verbose", "-v", is_flag=True, help="Show each step and each check.")
@click.pass_obj
def rewrite(context: Context, draft: str, style: str, verbose: bool) -> None:  # noqa: FBT001 - a flag
    """Suggest up to three other wordings of DRAFT ("-" reads it from standard input)."""
    import asyncio
    import sys

    from sottovoce.cli import show
    from sottovoce.device.client import Client

    text = sys.stdin.read() if draft == "-" else draft
    asyncio.run(
        show.run(
            show.console(), Client(context.home), lambda client: client.rewrite(text, style), verbose=verbose
        )
    )
