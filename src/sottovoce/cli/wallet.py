"""`sottovoce wallet`: the anonymous tokens of this device."""

import time

import click

from sottovoce.cli.main import Context

__all__ = ["wallet"]


@click.group()
def wallet() -> None:
    """Show or refill the anonymous tokens."""


@wallet.command()
@click.pass_obj
def show(context: Context) -> None:
    """How many tokens there are, and when the next refill is planned."""
    from sottovoce.device.client import Client

    stock, planned = Client(context.home).stock()
    click.echo(f"{stock.ready} tokens may be used now, {stock.waiting} later.")
    click.echo(f"Next refill: {time.strftime('%Y-%m-%d %H:%M', time.localtime(planned))}.")


@wallet.command()
@click.option(
    "--now", is_flag=True, help="Even if none is due: the issuer may then see when you need tokens."
)
@click.pass_obj
def refill(context: Context, now: bool) -> None:  # noqa: FBT001 - a flag
    """Fetch a batch of tokens, if the wallet's schedule says so, and the directory, if its own does.

    Have it run every few minutes, also when nobody uses the device: what is fetched then says nothing about use.
    """
    import asyncio

    from sottovoce.device.client import Client

    async def fetch() -> int:
        async with Client(context.home) as client:
            count = await client.refill_wallet(only_if_due=not now)
            await client.refresh_directory()
            return count

    count = asyncio.run(fetch())
    click.echo(f"{count} tokens fetched." if count else "No refill is due. `--now` fetches anyway.")
