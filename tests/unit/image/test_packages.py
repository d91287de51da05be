"""Debian packages: exactly these bytes, or an error that says what to do."""

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from sottovoce.core.errors import UnavailableError
from sottovoce.image.packages import Fetch, Package, StaleLockError, fetch

DATA = b"the package"
ONE = Package(
    name="libc6",
    version="2.36-9+deb12u14",
    suite="bookworm",
    path="pool/main/g/glibc/libc6_2.36-9+deb12u14_amd64.deb",
    sha256=hashlib.sha256(DATA).hexdigest(),
    size=len(DATA),
)


def gives(data: bytes) -> Fetch:
    return lambda *_: data


def never(url: str, most: int) -> bytes:
    raise AssertionError(url)


def test_fetched_once_and_kept(tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []

    def get(url: str, most: int) -> bytes:
        asked.append((url, most))
        return DATA

    assert fetch(ONE, tmp_path / "cache", ask=get, mirror="http://mirror") == DATA
    assert asked == [(f"http://mirror/{ONE.path}", len(DATA))]
    assert fetch(ONE, tmp_path / "cache", ask=never) == DATA
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{ONE.sha256}.deb"]


def test_what_is_kept_is_checked_too(tmp_path: Path) -> None:
    kept = tmp_path / f"{ONE.sha256}.deb"
    kept.write_bytes(b"another one")
    assert fetch(ONE, tmp_path, ask=gives(DATA)) == DATA
    assert kept.read_bytes() == DATA


def test_a_stale_lock_says_what_to_do_and_takes_nothing_else(tmp_path: Path) -> None:
    def gone(url: str, most: int) -> bytes:
        raise FileNotFoundError

    for get in (gone, gives(b"The package"), gives(DATA + b"!")):
        with pytest.raises(StaleLockError, match=r"stale: libc6 2\.36") as found:
            fetch(ONE, tmp_path, ask=get)
        assert f"{ONE.sha256}.deb" in found.value.hint
        assert "sottovoce image lock" in found.value.hint
    assert list(tmp_path.iterdir()) == []
    # What somebody got elsewhere is taken if it is the same.
    (tmp_path / f"{ONE.sha256}.deb").write_bytes(DATA)
    assert fetch(ONE, tmp_path, ask=gone) == DATA


def test_nobody_answers(tmp_path: Path) -> None:
    def down(url: str, most: int) -> bytes:
        raise OSError

    with pytest.raises(UnavailableError, match="does not answer") as found:
        fetch(ONE, tmp_path, ask=down)
    assert not isinstance(found.value, StaleLockError)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def served(folder: Path, handler: Callable[..., BaseHTTPRequestHandler] | None = None) -> Iterator[str]:
    folder.mkdir()
    with HTTPServer(("127.0.0.1", 0), handler or functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_over_http(tmp_path: Path) -> None:
    """As it is without a test: a file that is there, one that is not, one that is too long, and nobody."""
    with served(tmp_path / "mirror") as mirror:
        path = tmp_path / "mirror" / ONE.path
        path.parent.mkdir(parents=True)
        path.write_bytes(DATA)
        assert fetch(ONE, tmp_path / "one", mirror=mirror) == DATA
        path.write_bytes(DATA * 1000)
        with pytest.raises(StaleLockError, match="other bytes"):
            fetch(ONE, tmp_path / "two", mirror=mirror)
        path.unlink()
        with pytest.raises(StaleLockError, match="not at the mirror"):
            fetch(ONE, tmp_path / "two", mirror=mirror)
    with pytest.raises(UnavailableError, match="does not answer"):
        fetch(ONE, tmp_path / "two", mirror=mirror)


class Ending(BaseHTTPRequestHandler):
    """A mirror whose answers end too soon."""

    answer = b""

    def do_GET(self) -> None:
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nthe",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nthe",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
)
def test_an_answer_that_is_cut_off_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(Ending, "answer", answer)
    with (
        served(tmp_path / "mirror", Ending) as mirror,
        pytest.raises(UnavailableError, match="does not answer") as found,
    ):
        fetch(ONE, tmp_path / "one", mirror=mirror)
    assert not isinstance(found.value, StaleLockError)
