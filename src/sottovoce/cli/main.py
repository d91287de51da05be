"""The `sottovoce` command. Each subcommand is a file of its own, imported only when it runs."""

import importlib
import io
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import click

import sottovoce
from sottovoce.cli.exits import INTERRUPTED, exit_code
from sottovoce.core.errors import SottovoceError

__all__ = ["Context", "cli", "main"]

_AGAIN: Final = 0.01
"""Seconds until a request to stop that was swallowed is made again."""
_COMMANDS: Final = {
    "demo": "Start every party on this machine and do the main job once.",
    "up": "Start every party on this machine and keep them running.",
    "settings": "Opt in or out; mark a chat as private.",
    "app": "Chats, summaries and writing help in the browser.",
    "summarize": "Summarise the unread messages of an exported chat.",
    "rewrite": "Suggest three other wordings of a draft.",
    "proxy": "Give programs of this machine a local address that speaks OpenAI's interface.",
    "report": "What was sent, to what, and what was verified.",
    "verify": "Verify evidence, and see every check.",
    "log": "Look into the public log, prove and publish entries, or watch it as a monitor.",
    "attack": "Attack a world of parties, and see what stops it.",
    "simulate": "Measure what an operator could link, on a simulated population.",
    "wallet": "Show or refill the anonymous tokens.",
    "model": "Fetch the embedded language model.",
    "image": "Build, measure and rebuild the image of a CVM.",
    "serve": "Run one party as a service.",
    "directory": "Prepare, sign, check and publish the next day's directory.",
    "metrics": "Count what services log, for Prometheus.",
    "spent": "Make or check the gateways' store of spent tokens.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every command gets: where this device keeps its state, and where the parties run."""

    home: Path
    world: Path


class _Lazy(click.Group):
    """Names and help lines are known without importing a command: `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"sottovoce.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy)
@click.version_option(sottovoce.__version__, prog_name="sottovoce")
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("~/.sottovoce"),
    show_default=True,
    help="Where this device keeps its settings, tokens and reports.",
)
@click.option(
    "--world",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where `up` keeps the parties of this machine.  [default: HOME/world]",
)
@click.pass_context
def cli(context: click.Context, home: Path, world: Path | None) -> None:
    """Private AI for messages: nobody but you can read them, and you can check that."""
    if context.invoked_subcommand != "serve":  # a service has its own way to end
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
    home = home.expanduser().absolute()
    context.obj = Context(home=home, world=(world or home / "world").expanduser().absolute())


def _interrupt(_signal: int, _frame: object) -> None:
    """Let a request to stop end like Ctrl-C: everything is put away first."""
    raise KeyboardInterrupt


def _insist() -> None:
    """Let a request to stop be heard wherever it comes.

    Python swallows what is raised while it clears up an object. The request is then made again a moment later.
    """
    otherwise = sys.unraisablehook

    def heard(event: "sys.UnraisableHookArgs", /) -> None:
        if event.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            otherwise(event)

    signal.signal(signal.SIGALRM, _interrupt)
    sys.unraisablehook = heard


def main() -> NoReturn:
    """Run the command line; every error is one line and an exit code of its own."""
    try:
        _insist()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A terminal or a pipe that cannot show a character gets a sign in its place, not a traceback.
                stream.reconfigure(errors="replace")
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nInterrupted. Nothing is left running.", err=True)
        sys.exit(INTERRUPTED)
    except SottovoceError as error:
        click.echo(f"sottovoce: {error} [{error.code}]", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        sys.exit(exit_code(error))
    except BrokenPipeError:
        sys.exit(INTERRUPTED)
    sys.exit(0)
