"""`sottovoce app` as a process: what it prints, and how it ends."""

import http.client
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("asked", [False, True])
def test_it_serves_until_it_is_stopped(tmp_path: Path, how: signal.Signals, *, asked: bool) -> None:
    # Whoever runs the tests in the background of a shell ignores SIGINT, and what is started here would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    words = [sys.executable, "-P", "-m", "sottovoce", "--home", str(tmp_path), "app"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    ) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdout is not None
        printed = ""
        while (found := re.search(r"(http://127\.0\.0\.1:\d+/\S+/)\?token=\S+", printed)) is None:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        # Asked once it serves; or stopped at once, while it starts.
        if asked:
            host, path = found.group(1).removeprefix("http://").split("/", 1)
            connection = http.client.HTTPConnection(host, timeout=60)
            connection.request("GET", f"/{path}")
            assert connection.getresponse().status == 403
            connection.close()
            # A crash would write no chat to the disk.
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            assert re.search(r"Max core file size +0 +0 ", limits)
        process.send_signal(how)
        rest = process.stdout.read()
        assert process.wait(100) == 130, rest
    assert "Traceback" not in rest
    assert "Nothing is left running" in rest
    assert not [path for path in tmp_path.iterdir() if path.name != "settings.json"]


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-P", "-m", "sottovoce", "--home", str(tmp_path), "app", "--port", port],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert done.returncode == 2
    assert "the port cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
