"""`sottovoce up`: every party on this machine, until Ctrl-C."""

import time
from typing import TYPE_CHECKING, Final

import click

from sottovoce.cli.main import Context

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from sottovoce.simulator.world import World

__all__ = ["up"]

_TICK: Final = 5.0
_RENEW: Final = 3 * 3600
"""Seconds between two renewals: proofs stay far below the day that a device accepts."""
_RETRY: Final = 60


@click.command()
@click.option("--small", is_flag=True, help="With the small model: quick, but its answers make no sense.")
@click.pass_obj
def up(context: Context, small: bool) -> None:  # noqa: FBT001 - a flag
    """Start every party on this machine and keep them running until Ctrl-C.

    This device is enrolled with them, and its tokens are refilled on their own schedule.
    """
    from sottovoce.cli import parties, show

    out = show.console()
    show.banner(out, simulated=True)
    with (
        parties.open_world(context.world, small=small) as world,
        parties.running(out, world, context.home),
    ):
        parties.show_parties(out, world)
        out.print("\nAll of them serve. In another terminal:\n", style="bold")
        for line in (
            "sottovoce settings enable",
            "sottovoce summarize examples/chats/book-club.txt --unread 40",
            'sottovoce rewrite --style professional "cant make it tmrw sry"',
            "sottovoce report list",
        ):
            out.print(f"    {line}")
        out.print("\nCtrl-C stops everything.")
        _keep(out, world, context.home)


def _keep(out: "Console", world: "World", home: "Path") -> None:
    import asyncio

    from sottovoce.core.errors import SottovoceError, UnavailableError
    from sottovoce.core.tokens import epoch_at
    from sottovoce.device.client import Client

    async def refill() -> None:
        async with Client(home) as client:
            await client.refill_wallet(only_if_due=True)
            await client.refresh_directory()

    epoch, due = epoch_at(int(time.time())), time.monotonic() + _RENEW
    while True:
        time.sleep(_TICK)
        if dead := world.dead():
            raise UnavailableError(
                f"{', '.join(dead)} ended by itself", party=dead[0], hint=f"see {world.folder / 'logs'}"
            )
        try:
            if epoch_at(int(time.time())) != epoch or time.monotonic() > due:
                world.renew()
                epoch, due = epoch_at(int(time.time())), time.monotonic() + _RENEW
            asyncio.run(refill())
        except SottovoceError as error:
            out.print(f"{error} [{error.code}]; trying again in {_RETRY} s", style="yellow")
            time.sleep(_RETRY)
