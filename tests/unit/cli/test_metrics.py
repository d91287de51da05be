"""`sottovoce metrics`: logs followed, a page for Prometheus, and clear errors."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sottovoce.cli.metrics import Follower
from sottovoce.core.events import encode_event
from sottovoce.tee.logfilter import Party, Started

LINE = encode_event(Started(role=Party.GUARD, warm_ms=20))
COMMAND = [sys.executable, "-P", "-m", "sottovoce", "metrics", "--listen"]


@contextlib.contextmanager
def running(*words: str, listen: str = "127.0.0.1:0") -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The command, and where its page is."""
    process = subprocess.Popen(
        [*COMMAND, listen, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, process.stderr.readline().decode().strip()
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def value(url: str, name: str) -> float:
    """The sum of a metric's samples; 0 if there are none."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - of this test
        text = answer.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


def becomes(url: str, name: str, wanted: float) -> bool:
    end = time.monotonic() + 20
    while value(url, name) != wanted:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_log_that_is_followed(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_bytes(LINE + b"nonsense\n")
    with running(str(log)) as (process, url):
        assert becomes(url, "sottovoce_started_total", 1)
        with log.open("ab") as file:
            file.write(LINE[:20])
            file.flush()
            file.write(LINE[20:])
        assert becomes(url, "sottovoce_started_total", 2)
        assert value(url, "sottovoce_lines_refused_total") == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130
        assert b"Traceback" not in process.stderr.read()  # type: ignore[union-attr]


def test_standard_input_until_it_ends() -> None:
    with running() as (process, url):
        assert process.stdin is not None
        process.stdin.write(LINE * 3)
        process.stdin.flush()
        assert becomes(url, "sottovoce_started_total", 3)
        process.stdin.close()
        assert process.wait(20) == 0


def test_a_log_that_is_put_aside_or_cut(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_bytes(LINE)
    follower = Follower(log)
    assert list(follower.read()) == [LINE.strip()]
    with log.open("ab") as file:
        file.write(LINE)
    log.rename(tmp_path / "service.log.1")
    assert list(follower.read()) == [LINE.strip()]  # of the old one
    log.write_bytes(LINE * 2)
    assert list(follower.read()) == [LINE.strip()] * 2
    log.write_bytes(LINE)  # cut: shorter than what was read
    assert list(follower.read()) == [LINE.strip()]
    assert list(follower.read()) == []
    follower.close()


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_bytes(b"x" * 300_000)
    follower = Follower(log)
    assert list(follower.read()) == []
    with log.open("ab") as file:
        file.write(b"\n" + LINE)
    (long, line) = follower.read()
    assert len(long) < 100_000
    assert line == LINE.strip()
    follower.close()


@pytest.mark.parametrize(
    ("words", "listen", "said"),
    [
        (["/nowhere/at/all.log"], "127.0.0.1:0", "a log is not there"),
        ([], "here", "the address to listen on is not HOST:PORT"),
        ([], "127.0.0.1:99999", "the address to listen on is not HOST:PORT"),
        ([], "192.0.2.1:9464", "nobody can listen there"),
    ],
)
def test_clear_errors(words: list[str], listen: str, said: str) -> None:
    done = subprocess.run(
        [*COMMAND, listen, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode not in {0, 1}
    assert done.stderr.startswith(f"sottovoce: {said}")
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run([*COMMAND, address], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.startswith("sottovoce: nobody can listen there")
