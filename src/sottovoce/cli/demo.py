"""`sottovoce demo`: every party, one device, the main job once; or an attack that must be refused."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sottovoce.attacks import ATTACKS
from sottovoce.cli.main import Context

if TYPE_CHECKING:
    from rich.console import Console

    from sottovoce.device.chats import Chat
    from sottovoce.simulator.world import World

__all__ = ["demo"]

_CHAT: Final = Path(__file__).parents[3] / "examples" / "chats" / "book-club.txt"
_UNREAD: Final = 40
_DRAFT, _STYLE = "cant make it tmrw sry", "professional"


@click.command()
@click.option("--attack", type=click.Choice(ATTACKS), help="Attack instead, and see the device refuse.")
@click.option(
    "--chat",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    default=None,
    help="Another exported chat than the one that ships with the project.",
)
@click.option("--small", is_flag=True, help="With the small model: quick, but its answers make no sense.")
@click.pass_obj
def demo(context: Context, attack: str | None, chat: Path | None, small: bool) -> None:  # noqa: ARG001, FBT001
    """Start every party on this machine, do the main job once, stop everything.

    Everything but the fetched model lives in a temporary folder that is removed at the end.
    """
    from sottovoce.cli import parties, show
    from sottovoce.device.chats import read_chat

    began = time.perf_counter()
    out = show.console()
    show.banner(out, simulated=True)
    imported = read_chat(chat or _CHAT)
    with _temporary() as folder:
        home = folder / "device"
        with (
            parties.open_world(folder / "world", small=small) as world,
            parties.running(out, world, home),
        ):
            _heading(out, f"1. Every party, a process of its own ({time.perf_counter() - began:.1f} s)")
            parties.show_parties(out, world)
            _opt_in(out, home, imported)
            if attack is None:
                _main_job(out, home, imported, began)
            else:
                _attack(out, world, home, imported, attack)
    _heading(out, "Everything is stopped. Nothing is left but the fetched model.")
    if attack is None:
        out.print("See a refusal:  sottovoce demo --attack replay")
        out.print("Keep it running, and use it yourself:  sottovoce up")


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sottovoce-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _heading(out: "Console", text: str) -> None:
    out.print(f"\n{text}", style="bold", highlight=False)


def _opt_in(out: "Console", home: Path, chat: "Chat") -> None:
    from sottovoce.device.client import Client
    from sottovoce.device.settings import CONSENT_TEXT, SettingsStore

    _heading(out, "2. The device: off by default, so it opts in (`sottovoce settings enable`)")
    out.print(CONSENT_TEXT, style="dim")
    SettingsStore(home).enable(now=int(time.time()))
    stock, _ = Client(home).stock()
    low, high = Client(home).environment.token_age
    out.print(f"\n  imported “{chat.title}”: {len(chat.messages)} messages")
    out.print(f"  {stock.ready} anonymous tokens for today in the wallet, {stock.waiting} for tomorrow")
    out.print(f"  a token rests {low} to {high} s before use here, 600 to 7200 s outside a test world")


def _main_job(out: "Console", home: Path, chat: "Chat", began: float) -> None:
    import asyncio

    from sottovoce.cli import show
    from sottovoce.device.client import Client

    _heading(out, f"3. A summary of the last {_UNREAD} messages")
    asyncio.run(
        show.run(
            out, Client(home), lambda client: client.summarize(chat, count=_UNREAD), verbose=True, began=began
        )
    )
    _heading(out, f"4. Three other wordings of “{_DRAFT}”, {_STYLE}")
    asyncio.run(show.run(out, Client(home), lambda client: client.rewrite(_DRAFT, _STYLE), verbose=False))
    _heading(out, "5. Who could see what")
    show.show_who(out)


def _attack(out: "Console", world: "World", home: Path, chat: "Chat", name: str) -> None:
    import asyncio

    from sottovoce import attacks
    from sottovoce.attest.verdict import VerificationRefused
    from sottovoce.cli import show
    from sottovoce.core.errors import VerificationError
    from sottovoce.device.client import Client

    attempt = attacks.load(name)
    _heading(out, f"3. The attack: {name}")
    out.print(f"  {attempt.TRIES}")
    with attempt.attack(world) as got:
        _heading(out, f"4. The device asks for a summary of the last {_UNREAD} messages, as always")
        try:
            asyncio.run(
                show.run(
                    out, Client(home), lambda client: client.summarize(chat, count=_UNREAD), verbose=True
                )
            )
        except VerificationRefused as refused:
            failed = {check.id for check in refused.verdict.failed}
            if not failed & attempt.CHECKS:
                raise
            _heading(out, f"5. Refused{str(refused).removeprefix('refused')}")
            out.print(f"  {refused.hint}")
            out.print(f"  The attacker {got()}.")
            return
    raise VerificationError("the attack was not refused", check=name)
