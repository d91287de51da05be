"""`sottovoce proxy`: a local base URL for programs that speak OpenAI's interface."""

from typing import TYPE_CHECKING

import click

from sottovoce.cli.main import Context

if TYPE_CHECKING:
    from rich.console import Console

    from sottovoce.core.errors import SottovoceError
    from sottovoce.device.client import Client, RawEvent

__all__ = ["proxy"]


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8642, show_default=True, help="0: any that is free."
)
@click.pass_obj
def proxy(context: Context, port: int) -> None:
    """Serve OpenAI's chat interface on this machine; each request is an attested session of its own.

    A request takes one anonymous token, as a summary does. Stop with Ctrl-C.
    """
    import asyncio

    from sottovoce.cli import show
    from sottovoce.device.client import Client
    from sottovoce.device.proxy import proxy_key

    out = show.console()
    key = proxy_key(context.home)
    asyncio.run(_serve(out, Client(context.home), key, port))


async def _serve(out: "Console", client: "Client", key: str, port: int) -> None:
    from sottovoce.cli import show
    from sottovoce.device.proxy import create_app, run

    def started(found: int) -> None:
        show.banner(out, simulated=client.environment.simulated)
        out.print("Programs on this machine can now use:\n", style="bold")
        out.print(f"    export OPENAI_BASE_URL=http://127.0.0.1:{found}/v1", soft_wrap=True)
        out.print(f"    export OPENAI_API_KEY={key}", soft_wrap=True)
        out.print(
            "\nWhatever a program sends there leaves this device; each request is verified first. Ctrl-C stops this."
        )

    async with client:
        await run(create_app(client, key=key, tell=lambda event: _tell(out, event)), port, started)


def _tell(out: "Console", event: "RawEvent | SottovoceError") -> None:
    from sottovoce.attest.verdict import Status
    from sottovoce.core.errors import SottovoceError
    from sottovoce.device.client import Attested, Kept, NotKept

    match event:
        case SottovoceError():
            out.print(f"  {event} [{event.code}]", style="red")
        case Attested():
            out.print(
                f"  verified: {event.verdict.count(Status.PASS)} checks passed; sending now", style="dim"
            )
        case Kept():
            out.print(f"  report {event.report_id[:8]}", style="dim")
        case NotKept():
            out.print(f"  {event.error}", style="red")
