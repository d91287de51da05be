"""The programs in `examples/programs`, as somebody copies them; and a client install alone, with none of the extras."""

import subprocess
import sys
from pathlib import Path

import pytest

from e2e.conftest import CHATS, Device
from sottovoce.device.reports import ReportStore

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "examples" / "programs"


def run(python: str, device: Device, program: str, *words: str) -> str:
    """A program as the user of `device` runs it, whose home is where programs look for it."""
    state = device.home.parent / ".sottovoce"
    if not state.exists():
        state.symlink_to(device.home)
    done = subprocess.run(
        [python, "-P", str(PROGRAMS / program), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env=device.variables | {"HOME": str(device.home.parent)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_each_program(device: Device) -> None:
    said = run(sys.executable, device, "summary.py", str(CHATS / "book-club.txt"))
    assert "Anna Lindqvist: " in said
    assert "['61']" in said
    assert run(sys.executable, device, "wording.py", "cant make it tmrw sry").strip()
    assert run(sys.executable, device, "openai_client.py", "Name a colour.").strip()
    assert [one.feature for one in ReportStore(device.home).list()] == ["summary", "rewrite", "chat", "chat"]


def test_a_client_install_alone(device: Device, tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not beside this Python (make setup)")
    place = tmp_path / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, place], check=True, timeout=100)
    python = place / "bin" / "python"
    # The locked versions, and not the newest of the day.
    locked = tmp_path / "locked.txt"
    export = ["export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--output-file", str(locked)]
    install = ["pip", "install", "--quiet", "--no-deps", "--python", str(python)]
    for words in (
        export,
        [*install, "--requirements", str(locked)],
        [*install, str(ROOT)],
        ["pip", "check", "--quiet", "--python", str(python)],
    ):
        subprocess.run([uv, *words], check=True, timeout=280, cwd=ROOT)
    listed = subprocess.run(
        [uv, "pip", "list", "--quiet", "--python", python, "--format=freeze"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    # What a person must trust: no server, no web framework, no model.
    for extra in ("starlette", "uvicorn", "llama", "jinja2", "httpx2", "numpy"):
        assert extra not in listed
    assert "Anna Lindqvist: " in run(str(python), device, "summary.py", str(CHATS / "book-club.txt"))
