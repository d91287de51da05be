"""One HTTP request of an operator's command: no session, no redirect, a limit on the answer."""

import http.client
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from sottovoce.core.errors import ConfigError, UnavailableError

__all__ = ["ask", "require_url"]

_TIMEOUT: Final = 30.0


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
        UnavailableError: nobody answers, or with more than `limit` bytes.
    """
    require_url(url)
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    try:
        connection.request(method, parts.path.rstrip("/") + path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        answer = response.read(limit + 1)
    except (OSError, http.client.HTTPException, ValueError):
        raise UnavailableError(f"the {party} does not answer", party=party) from None
    finally:
        connection.close()
    if len(answer) > limit:
        raise UnavailableError(f"the {party} answers with more than is allowed", party=party)
    return response.status, answer
