"""`sottovoce settings`: opt in or out; mark chats that must never be processed."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sottovoce.cli.main import Context

if TYPE_CHECKING:
    from sottovoce.device.settings import SettingsStore

__all__ = ["settings"]


@click.group()
def settings() -> None:
    """Opt in or out; mark a chat as private."""


@settings.command()
@click.option("--yes", is_flag=True, help="Agree without being asked.")
@click.pass_obj
def enable(context: Context, yes: bool) -> None:  # noqa: FBT001 - a flag
    """Turn private processing on, after saying what that means."""
    from sottovoce.device.settings import CONSENT_TEXT

    click.echo(CONSENT_TEXT + "\n")
    if not (yes or click.confirm("Turn private processing on?", default=False)):
        click.echo("It stays off.")
        return
    _store(context).enable(now=int(time.time()))
    click.echo("Private processing is on. `sottovoce settings disable` turns it off.")


@settings.command()
@click.pass_obj
def disable(context: Context) -> None:
    """Turn private processing off. Marks on chats stay."""
    _store(context).disable()
    click.echo("Private processing is off.")


@settings.command()
@click.pass_obj
def show(context: Context) -> None:
    """Show what is on, and which chats are private."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sottovoce.device.settings import CONSENT_VERSION

    state = _store(context).load()
    if state.enabled is None:
        click.echo("Private processing is off.")
    elif state.enabled.text_version != CONSENT_VERSION:
        click.echo("Private processing is off: what it means has changed since you turned it on.")
    else:
        click.echo(f"Private processing is on since {_day(state.enabled.since)}.")
    if not state.private:
        click.echo("No chat is marked as private.")
        return
    table = Table(title="Private chats: never processed", title_justify="left", box=None, pad_edge=False)
    table.add_column("chat", overflow="fold")
    table.add_column("since")
    for mark in state.private:
        table.add_row(Text(mark.title or "(untitled)"), _day(mark.since))
    Console(highlight=False).print(table)


@settings.command()
@click.argument("chat", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def private(context: Context, chat: Path) -> None:
    """Mark the exported CHAT as private: it is always refused."""
    title, chat_id = _identify(chat)
    _store(context).mark_private(chat_id, title=title, now=int(time.time()))
    click.echo(f"{_name(title)} is private: nothing of it will be processed, in later exports neither.")


@settings.command()
@click.argument("chat", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def allow(context: Context, chat: Path) -> None:
    """Remove the private mark of the exported CHAT."""
    title, chat_id = _identify(chat)
    removed = _store(context).allow(chat_id)
    click.echo(f"{_name(title)} {'is no longer private' if removed else 'was not marked as private'}.")


def _store(context: Context) -> "SettingsStore":
    from sottovoce.device.settings import SettingsStore

    return SettingsStore(context.home)


def _identify(path: Path) -> tuple[str, str]:
    from sottovoce.device.chats import chat_id, read_chat

    chat = read_chat(path)
    return chat.title, chat_id(chat.title, chat.messages)


def _name(title: str) -> str:
    return f"“{title}”" if title else "This chat"


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
