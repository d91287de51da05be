"""`sottovoce metrics`: logs followed, a page for Prometheus, and clear errors."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sottovoce.cli.eventmetrics import metrics_of
from sottovoce.cli.metrics import Follower, events, metrics
from sottovoce.core.errors import ConfigError
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


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - of this test
        text: str = answer.read().decode()
    return text


def value(url: str, name: str) -> float:
    """The sum of a metric's samples; 0 if there are none."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(page(url))
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


def one_of(kind: Any) -> Any:
    return next(iter(kind)) if issubclass(kind, Enum) else kind(1)


def test_every_event_makes_its_metrics(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with log.open("wb") as file:
        for kind in events():
            fields = {field.name: one_of(field.type) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
            file.write(encode_event(kind(**fields)))
    with running(str(log)) as (_process, url):
        # What was there has been read when the page is there.
        found = {
            sample.name: sample.value
            for family in text_string_to_metric_families(page(url))
            for sample in family.samples
            if sample.value
        }
    assert "sottovoce_lines_refused_total" not in found
    wanted = {
        metric.name + ("_count" if metric.kind == "histogram" else "")
        for kind in events()
        for metric in metrics_of(kind)
    }
    assert {name: found.get(name) for name in wanted} == dict.fromkeys(wanted, 1)


def test_what_a_line_says_is_shown_nowhere(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_bytes(LINE)
    with running(str(log)) as (process, url):
        before = page(url)
        with log.open("ab") as file:
            file.write(b"Traceback: quokka-4711\n" + LINE[:-2] + b', "text": "quokka-4711"}\n')
            file.write(LINE.replace(b"guard", b"quokka-4711"))
        assert becomes(url, "sottovoce_lines_refused_total", 3)
        after = page(f"{url}?quokka-4711")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert process.stdout is not None
        said = process.stderr.read() + process.stdout.read()
    assert after == before.replace("lines_refused_total 0.0", "lines_refused_total 3.0")
    assert b"quokka" not in said


def test_a_log_that_is_put_aside_while_it_is_followed(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_bytes(LINE)
    with running(str(log), str(log)) as (_process, url):
        assert value(url, "sottovoce_started_total") == 1  # named twice, counted once
        log.rename(tmp_path / "service.log.1")
        with (tmp_path / "service.log.1").open("ab") as file:
            file.write(LINE)
        log.write_bytes(LINE * 2)
        assert becomes(url, "sottovoce_started_total", 4)
        os.truncate(log, 0)
        with log.open("ab") as file:
            file.write(LINE)  # shorter than what was read of it: seen as cut whenever it is looked at
        assert becomes(url, "sottovoce_started_total", 5)
        assert value(url, "sottovoce_lines_refused_total") == 0


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
    with log.open("ab") as file:
        file.write(LINE[:9])
    assert list(follower.read()) == []
    log.unlink()
    assert list(follower.read()) == []
    log.write_bytes(LINE)
    assert list(follower.read()) == [
        LINE[:9],
        LINE.strip(),
    ]  # what was never ended does not run into the next
    follower.close()


def test_what_is_no_file_is_not_followed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not there"):
        Follower(tmp_path / "none.log")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigError, match="no file"):
            Follower(path)
    log = tmp_path / "service.log"
    log.write_bytes(LINE)
    follower = Follower(log)
    (tmp_path / "pipe").rename(log)
    with pytest.raises(ConfigError, match="no file"):
        list(follower.read())
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
        ([], f"{'a' * 70}.example:0", "nobody can listen there"),
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


def test_it_listens_on_this_machine_alone_unless_told_otherwise() -> None:
    (listen,) = (one for one in metrics.params if one.name == "listen")
    assert listen.default == "127.0.0.1:9464"
    with running(listen="[::1]:0") as (_process, url):
        if "nobody can listen there" not in url:  # a machine may have no IPv6
            assert url.startswith("http://[::1]:")
            assert value(url, "sottovoce_started_total") == 0
