"""An operator's command asks once, and is held neither by one that says too much nor by one that never comes to an end."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sottovoce.core.errors import ConfigError, UnavailableError
from sottovoce.edge import plainhttp
from sottovoce.edge.plainhttp import ask

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def peer(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server for one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            one, _ = listening.accept()
            with one:
                one.settimeout(60)
                one.recv(4096)
                answer(one)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/base/"
        thread.join(60)


def test_what_is_answered() -> None:
    with peer(lambda one: one.sendall(OK + b"Content-Length: 2\r\n\r\nhi")) as url:
        assert ask(url, "/x", party="log", limit=2) == (200, b"hi")


def test_more_than_is_allowed() -> None:
    with peer(lambda one: one.sendall(OK + b"Content-Length: 3\r\n\r\nhi!")) as url:
        with pytest.raises(UnavailableError, match="more than is allowed") as found:
            ask(url, "/x", party="log", limit=2)
        assert found.value.party == "log"


@pytest.mark.parametrize(
    "head", [OK + b"Content-Length: 1000000\r\n\r\n", OK + b"Connection: close\r\n\r\n", OK + b"X-Slow: "]
)
def test_one_that_never_comes_to_an_end(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    """A byte now and then is no silence. What had come until the end is not taken for all of it."""
    monkeypatch.setattr(plainhttp, "_TOTAL", 0.3)
    ended = threading.Event()

    def drip(one: socket.socket) -> None:
        try:
            one.sendall(head)
            while True:
                one.sendall(b"a")
                ended.wait(0.02)
        except OSError:
            ended.set()

    with peer(drip) as url:
        with pytest.raises(UnavailableError):
            ask(url, "/x", party="log", limit=1 << 20)
        assert ended.wait(60)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", OK + b"Content-Length: 9\r\n\r\nhi"])
def test_what_is_no_answer(answer: bytes) -> None:
    with (
        peer(lambda one: one.sendall(answer)) as url,
        pytest.raises(UnavailableError, match="does not answer"),
    ):
        ask(url, "/x", party="log", limit=9)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with pytest.raises(UnavailableError, match="does not answer"):
        ask(url, "/", party="log", limit=9)


@pytest.mark.parametrize("url", ["", "ftp://a", "http://", "http://a:b", "http://a/?q"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match="malformed"):
        ask(url, "/", party="log", limit=9)
