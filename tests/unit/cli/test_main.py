"""The command itself: a request to stop is heard wherever it comes."""

import subprocess
import sys

import pytest

INTERRUPTED = 130
PROGRAM = """
import os, signal, time, weakref
import click
from sottovoce.cli import main

class Thing: pass

asked = []

def let_go(_):
    # The request comes here, where Python swallows what is raised; and while the next one is let go it is made again.
    if not asked:
        asked.append(os.kill(os.getpid(), signal.SIGINT))
    time.sleep(0.03)

@main.cli.command("let-go")
def command():
    for _ in range({times}):
        thing = Thing()
        kept = weakref.ref(thing, let_go)
        del thing
    time.sleep(600)
    click.echo("went on")

main._COMMANDS["let-go"] = ""
main._Lazy.get_command = lambda self, ctx, name: command
main.main()
"""


@pytest.mark.parametrize("times", [1, 5])
def test_a_request_to_stop_while_python_clears_up(times: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{times}", str(times)), "let-go"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == INTERRUPTED, done.stderr
    assert done.stdout == ""
    assert done.stderr.strip() == "Interrupted. Nothing is left running."
