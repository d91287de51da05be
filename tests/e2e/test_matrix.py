"""The example for Matrix, with a server, an encrypted room and the people in it: all of it real, on loopback."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import Device
from sottovoce.device.reports import ReportStore

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
ROOT = Path(__file__).parents[2]
BESIDE = ROOT / "tests" / "peers" / "matrix"
BIN = BESIDE / ".venv" / "bin"
PROGRAM = ROOT / "examples" / "programs" / "matrix_unread.py"
SAID = (
    "Hello all",
    "Shall we meet on Friday at eight?",
    "I bring the cake",
    "Anna, can you bring plates?",
    "\U0001f44d",
)
MORE = """
enable_registration: false
trusted_key_servers: []
rc_message: {per_second: 1000, burst_count: 1000}
rc_login: {address: {per_second: 1000, burst_count: 1000}, account: {per_second: 1000, burst_count: 1000}}
"""


def run(
    words: list[str | Path], give: str = "", *, home: Path | None = None, folder: Path | None = None
) -> str:
    variables = {"PATH": os.environ["PATH"], "HOME": str(home)} if home else dict(os.environ)
    done = subprocess.run(
        words, input=give, capture_output=True, text=True, check=False, timeout=200, env=variables, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def homeserver(place: Path) -> Iterator[str]:
    """Synapse, with accounts for Anna and Ben; gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings, url = place / "homeserver.yaml", f"http://127.0.0.1:{port}"
    words: list[str | Path] = [BIN / "python", "-m", "synapse.app.homeserver", "--config-path", settings]
    make = ["--generate-config", "--server-name", "example.org", "--report-stats=no"]
    # It writes its log where it is started.
    run([*words, *make, "--data-directory", place], folder=place)
    made = settings.read_text().replace("port: 8008", f"port: {port}").replace("    - ::1\n", "")
    settings.write_text(made + MORE)
    with (
        (place / "out.txt").open("w") as out,
        subprocess.Popen(words, stdout=out, stderr=out, cwd=place) as process,
    ):
        try:
            for _ in range(1200):
                assert process.poll() is None, (place / "out.txt").read_text()
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
                    break
                time.sleep(0.1)
            for name in ("anna", "ben"):
                account: list[str | Path] = ["-u", name, "-p", f"password of {name}", "--no-admin", url]
                run([BIN / "register_new_matrix_user", "-c", settings, *account], folder=place)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)


def test_what_is_unread_in_an_encrypted_room(device: Device, tmp_path: Path) -> None:
    if not (BESIDE / ".venv" / ".ready").exists():
        pytest.skip("a server of Matrix is not here (make peers)")
    home, place = device.home.parent, tmp_path / "server"
    (home / ".sottovoce").symlink_to(device.home)
    for folder in (place, tmp_path / "ben"):
        folder.mkdir()
    with homeserver(place) as url:
        anna: list[str | Path] = [BIN / "python", PROGRAM]
        run([*anna, "login", url, "@anna:example.org"], "password of anna\n", home=home)
        talk: list[str | Path] = [BIN / "python", BESIDE / "talk.py", url, tmp_path / "ben"]
        room = run(talk, json.dumps(SAID)).strip()
        said = run([*anna, room], home=home)
    # The server has no word of it: what comes out was opened on this side.
    assert SAID[1].encode() not in b"".join(one.read_bytes() for one in place.iterdir() if one.is_file())
    assert f"ben: {SAID[1]}  ['1']" in said
    assert "['3']" in said
    assert "Hello" not in said
    (report,) = ReportStore(device.home).list()
    assert (report.feature, report.outcome, report.message_count) == ("summary", "done", 4)
    assert (home / ".sottovoce-matrix" / "session.json").stat().st_mode & 0o777 == 0o600
