"""The host gives a CVM what should become a variable of its environment, after it was measured (row 13).

By the settings document, with everything that a name or a value could be; by the environment in which it starts the machine, or the CVM's own program; and by the kernel's
command line, whose unknown words the kernel hands to the first program as variables.

What is not tried: the loader's variables (`LD_PRELOAD`) on a simulated CVM's own process. Such a process is the host's; a CVM's first program gets its variables from the kernel.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sottovoce.attacks.attack import HOST, Attack, Outcome, Result
from sottovoce.attacks.booted import PID_1, boots
from sottovoce.attacks.host import Attempt, Given, Host, settings_of
from sottovoce.attacks.shown import lines, looks
from sottovoce.core import canonical
from sottovoce.core.errors import UnavailableError
from sottovoce.simulator.emulator import Launch
from sottovoce.simulator.measure import code_root
from sottovoce.simulator.processes import bind

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK", "BOOTED", "documents", "hostile", "planted"]

_MACHINE: Final = "guard-1"
_GRAMMAR: Final = "an unknown name or a value outside its grammar"
_FORM: Final = "not a canonical document"
_EMPTY, _ISOLATED = "empty-environment", "isolated-interpreter"
"""What stops it where nothing is refused: the CVM has no variable, and its interpreter reads none."""
_LINES: Final = ("LD_PRELOAD=/host/code.so", "PYTHONPATH=/host", "OPENSSL_CONF=/host/openssl.cnf")
BOOTED: Final[Mapping[str, tuple[Callable[[Launch], Launch], str]]] = {
    "the same three, with a table of hashes that fits": (
        lambda one: replace(one, command_line=" ".join([one.command_line, *_LINES])),
        "the kernel's command line is not the image's",
    ),
}
_PLANTED: Final = """
import os
with open({marker!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
"""


def documents(settings: bytes) -> Mapping[str, tuple[bytes, str]]:
    """What is tried → the document in place of `settings`, and the words with which it must be refused."""
    value: dict[str, Any] = json.loads(settings)

    def changed(**changes: object) -> bytes:
        return canonical.encode(value | changes)

    quorum = b'"quorum":%d' % value["quorum"]
    return {
        "LD_PRELOAD as a setting": (changed(LD_PRELOAD="/host/code.so"), _GRAMMAR),
        "PYTHONPATH as a setting": (changed(PYTHONPATH="/host"), _GRAMMAR),
        "an unknown name": (changed(debug=True), _GRAMMAR),
        "an unknown name below another": (changed(log=value["log"] | {"LD_PRELOAD": "/host"}), _GRAMMAR),
        "the environment's name as variables": (changed(environment={"PYTHONPATH": "/host"}), _GRAMMAR),
        "the environment's name as one variable": (changed(environment="PYTHONPATH=/host"), _GRAMMAR),
        "a value with a newline": (changed(version="0.1.0\nLD_PRELOAD=/host/code.so"), _GRAMMAR),
        "a value with a newline at its end": (changed(version="0.1.0\n"), _GRAMMAR),
        "a value with a NUL": (changed(version="0.1.0\0LD_PRELOAD=/host"), _GRAMMAR),
        "a value with a space": (changed(version="0.1.0 -c import"), _GRAMMAR),
        "an overlong value": (changed(version="0" * 101), _GRAMMAR),
        "an overlong number": (changed(sessions=1 << 40), _GRAMMAR),
        "a number as text": (changed(quorum="2"), _GRAMMAR),
        "an overlong document": (changed(relaxed=["a" * 99] * 700), _FORM),
        "a name twice": (settings.replace(quorum, quorum + b',"quorum":1'), _FORM),
        "another order of names": (_written(dict(reversed(value.items()))), _FORM),
        "spaces": (json.dumps(value).encode(), _FORM),
        "a newline at the end": (settings + b"\n", _FORM),
        "a second document behind it": (settings + settings, _FORM),
        "an escaped letter": (settings.replace(b'"role"', b'"\\u0072ole"'), _FORM),
        "a byte order mark": (b"\xef\xbb\xbf" + settings, _FORM),
        "nothing": (b"", _FORM),
    }


def _written(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def planted(folder: Path, marker: Path) -> None:
    """Put code into `folder` that an interpreter runs which looks there; it writes the number of its process to `marker`."""
    for name in ("sitecustomize", "usercustomize", "msgspec", "startup"):
        (folder / f"{name}.py").write_text(_PLANTED.format(marker=str(marker)))


def hostile(folder: Path) -> dict[str, str]:
    """Variables by which an interpreter would run what is in `folder`."""
    return {
        "PYTHONPATH": str(folder),
        "PYTHONSTARTUP": str(folder / "startup.py"),
        "PYTHONUSERBASE": str(folder),
        "PYTHONINSPECT": "1",
        "PYTHONWARNINGS": "error::sitecustomize.Warning",
        "HOME": str(folder),
    }


def interpreter(host: Host, settings: bytes, command: tuple[str, ...] | None = None) -> Outcome:
    """The measured program, started among variables with which planted code should run in it."""
    with tempfile.TemporaryDirectory(prefix="sottovoce-attack-") as name:
        folder, marker = Path(name), Path(name) / "ran"
        planted(folder, marker)
        variables = hostile(folder) | {"PYTHONHOME": name}
        if command is not None:
            del variables["PYTHONHOME"]  # without its library it would run nothing
        given = Given(settings=settings, environment=variables, command=command)
        with host.running(given) as cvm:
            started = cvm.outcome()
            ran = marker.exists() and str(cvm.pid) in marker.read_text().split()
    says = f"{started.says or 'it serves'}, {_ran(ran)}"
    return Outcome(stopped_by=frozenset() if ran else started.stopped_by | {_ISOLATED}, says=says)


def _ran(ran: bool) -> str:  # noqa: FBT001 - the only argument
    return "planted code has run in it" if ran else "no planted code has run in it"


@contextmanager
def _machine(config: Path, variables: Mapping[str, str]) -> Iterator[int]:
    """A machine that was started among these variables, when its CVM serves; gives the CVM's process."""
    with ExitStack() as stack:
        listener = stack.enter_context(bind())
        read, write = os.pipe()
        stack.callback(os.close, read)
        words = ("serve", "cvm", "--config", str(config), "--fd", str(listener.fileno()))
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-P", "-m", "sottovoce", *words, "--ready-fd", str(write)],
            pass_fds=(listener.fileno(), write),
            env={"PYTHONDONTWRITEBYTECODE": "1", **variables},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.enter_context(process)
        stack.callback(process.terminate)
        os.close(write)
        if not os.read(read, 1):
            raise UnavailableError("the machine did not start", party=_MACHINE)
        (cvm,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield int(cvm)


def machine(config: Path, code: Path | None = None) -> Outcome:
    """The machine started so: what of it the CVM's processes have. `code` is another project to start."""
    with tempfile.TemporaryDirectory(prefix="sottovoce-attack-") as name:
        folder, marker = Path(name), Path(name) / "ran"
        planted(folder, marker)
        (folder / "msgspec.py").unlink()  # the machine itself needs it
        variables = hostile(folder) | {
            "PYTHONPATH": f"{folder}:{code or code_root()}",
            "LD_PRELOAD": str(folder / "code.so"),
            "OPENSSL_CONF": str(folder / "openssl.cnf"),
        }
        with _machine(config, variables) as pid:
            found = Path(f"/proc/{pid}/environ").read_bytes()
            ran = str(pid) in marker.read_text().split() if marker.exists() else False
    says = f"{len(found)} bytes of variables in the CVM, {_ran(ran)}"
    return Outcome(stopped_by=frozenset() if found or ran else frozenset({_EMPTY}), says=says)


def _live(lab: "Lab") -> Iterator[Result]:
    world, host = lab.world, Host.of(lab.world, _MACHINE)
    settings = settings_of(world, _MACHINE)
    control = host.start(Given(settings=settings))
    if control.stopped_by:
        raise UnavailableError("what was published does not start", party=_MACHINE, hint=control.says)
    attempts = {
        tries: Attempt(Given(settings=document), reason=reason)
        for tries, (document, reason) in documents(settings).items()
    }
    yield from host.each(attempts)
    yield Result(
        tries="the machine started among hostile variables",
        wanted=frozenset({_EMPTY}),
        outcome=machine(world.folder / "configs" / f"{_MACHINE}.toml"),
    )
    yield Result(
        tries="the CVM's own program started among hostile variables",
        wanted=frozenset({_ISOLATED}),
        outcome=interpreter(host, settings),
    )
    yield from looks(lines(_LINES))
    yield from boots(lab.workshop, BOOTED)


ATTACK: Final = Attack(
    name="injected-environment",
    row="13",
    who=HOST,
    tries="variables for the CVM's environment: in its settings, in what starts it, in the kernel's command line",
    stopped_by=("config", _EMPTY, _ISOLATED, "refused.premises", PID_1),
    live=_live,
)
