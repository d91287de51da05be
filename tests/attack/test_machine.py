"""What a host changes of the machine that nobody measures (rows 17, 22, 25): PID 1's check refuses it, and one that lacks the rule does not."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from sottovoce.attacks import changed_tables, extra_device, injected_environment, other_command_line
from sottovoce.attacks.attack import refusal
from sottovoce.attacks.extra_device import listening, ports
from sottovoce.attacks.shown import EXPECTED, Change, Shown, lines, looks
from sottovoce.image.build import COMMAND_LINE
from sottovoce.image.machines import EMULATED
from sottovoce.tee import premises
from sottovoce.tee.premises import Premises

GROUPS: dict[str, dict[str, Change]] = {
    "_acpi": dict(changed_tables.CHANGES),
    "_devices": dict(extra_device.CHANGES),
    "_command_line": {**other_command_line.CHANGES, **lines(injected_environment._LINES)},
}
ALL = [(rule, name) for rule, changes in GROUPS.items() for name in changes]


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    return Shown(tmp_path)


def test_what_is_expected(shown: Shown) -> None:
    shown.look()
    assert EXPECTED.command_line.endswith(COMMAND_LINE)
    assert [name for name, _ in EXPECTED.acpi] == [name for name, _ in EMULATED.acpi]
    # Nothing of the list says more than an image's could.
    assert Premises.parse(msgspec.json.encode(EXPECTED)) == EXPECTED


@pytest.mark.parametrize(("rule", "name"), ALL)
def test_one_change(rule: str, name: str, shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    change, reason = GROUPS[rule][name]
    change(shown)
    outcome = refusal(shown.look)
    assert outcome.stopped_by == {"refused.premises"}
    assert reason in outcome.says
    monkeypatch.setattr(premises, rule, lambda *_: None)
    shown.look()


def test_the_attack_runs_each_of_them() -> None:
    for changes in GROUPS.values():
        results = list(looks(changes))
        assert [result.tries for result in results] == list(changes)
        assert all(result.is_stopped for result in results)


def test_a_check_that_refuses_everything_is_no_defence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise premises.PremisesRefused("no")

    monkeypatch.setattr(premises, "_acpi", refuse)
    with pytest.raises(premises.PremisesRefused):
        list(looks(changed_tables.CHANGES))


def test_a_list_without_numbers_takes_a_second_device(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flaw as it was: a set of kinds."""

    class Often(dict[tuple[str, ...], int]):
        def __init__(self, kinds: tuple[tuple[str, str, str], ...]) -> None:
            super().__init__(dict.fromkeys(kinds, 1 << 30))

        def __missing__(self, _: object) -> int:
            return 0

    monkeypatch.setattr(premises, "Counter", Often)
    for one in EXPECTED.devices:
        shown.device(*one)
    shown.look()


# Ports.

_LISTENS = """
import os, socket, sys
held = []
for family, kind in ((socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM)):
    one = socket.socket(family, kind)
    one.bind(("127.0.0.1", 0) if family == socket.AF_INET else f"\\0sottovoce-{os.getpid()}")
    if kind == socket.SOCK_STREAM:
        one.listen()
    held.append(one)
print("ready", flush=True)
sys.stdin.read()
"""
_HOLDS = "import sys; print('ready', flush=True); sys.stdin.read()"


@contextmanager
def process(program: str, *held: int) -> Iterator[int]:
    """A process with this program, that holds these descriptors."""
    command = [sys.executable, "-I", "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=held
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield started.pid
        started.kill()


def test_ports_that_nobody_needs_are_found() -> None:
    with process(_LISTENS) as pid:
        assert sorted(one.split()[0] for one in listening([pid])) == ["tcp", "udp", "unix"]
        assert ports([pid], 1).stopped_by == frozenset()


def test_one_port_is_right_and_another_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        number = one.getsockname()[1]
        with process(_HOLDS, one.fileno()) as pid:
            assert ports([pid], number).stopped_by == {"one-port"}
            assert ports([pid], number + 1).stopped_by == frozenset()
        with process(_HOLDS, one.fileno(), other.fileno()) as pid:
            assert ports([pid], number).stopped_by == frozenset()
        with process(_HOLDS) as pid:
            assert ports([pid], number).stopped_by == frozenset()
