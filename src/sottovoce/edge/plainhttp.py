"""One HTTP request of an operator's command: no session, no redirect, a limit on the answer."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from sottovoce.core.errors import ConfigError, UnavailableError

__all__ = ["ask", "require_url"]

_TIMEOUT: Final = 30.0
"""Seconds without a byte."""
_TOTAL: Final = 120.0
"""Seconds for all of it: who sends a byte now and then must not hold a command for ever."""


def require_url(url: str) -> None:
    """Refuse what is not the URL of a service.

    Raises:
        ConfigError: it is not.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise ConfigError("a URL is malformed", hint="https://HOST[:PORT][/PATH]")


def ask(
    url: str,
    path: str,
    *,
    party: str,
    limit: int,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Status and body of the answer of `party` at `url` + `path`.

    Raises:
        ConfigError: the URL is malformed.
        UnavailableError: nobody answers, with more than `limit` bytes, or not all of it within two minutes.
    """
    require_url(url)
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    late = threading.Event()
    timer: threading.Timer | None = None
    try:
        connection.connect()
        # The connection lets go of it while an answer is still being read.
        timer = threading.Timer(_TOTAL, _cut, (connection.sock, late))
        timer.daemon = True
        timer.start()
        connection.request(method, parts.path.rstrip("/") + path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        answer = response.read(limit + 1)
        # A limited read does not complain of an answer that was cut off.
        if response.length and len(answer) <= limit:
            raise http.client.IncompleteRead(b"")
    except (OSError, http.client.HTTPException, ValueError):
        raise UnavailableError(f"the {party} does not answer", party=party) from None
    finally:
        if timer is not None:
            timer.cancel()
        connection.close()
    if late.is_set():
        raise UnavailableError(f"the {party} takes too long to answer", party=party)
    if len(answer) > limit:
        raise UnavailableError(f"the {party} answers with more than is allowed", party=party)
    return response.status, answer


def _cut(sock: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
