"""OpenAI's interface, as whoever stands in for its server here needs it: request bodies without the fields that tell who asks, and errors in its form."""

import json
from collections.abc import AsyncGenerator
from typing import Final, Protocol

from sottovoce.core.errors import ConfigError, RefusedError, SottovoceError, UnavailableError, UsageError
from sottovoce.device.client import RawEvent
from sottovoce.device.http import TooMuchError

__all__ = ["EVENTS", "REQUEST_FAULT", "RESOURCES", "Completes", "error_document", "request_body", "told"]

RESOURCES: Final = frozenset({("GET", "/v1/models"), ("POST", "/v1/chat/completions")})
"""What the service has: method and path."""
EVENTS: Final = "text/event-stream"
REQUEST_FAULT: Final = "invalid_request_error"
_SERVICE_FAULT: Final = "api_error"
_TELLING: Final = (
    "user",
    "safety_identifier",
    "metadata",
    "store",
    "prompt_cache_key",
    "prompt_cache_retention",
)
"""Who asks, or what is to be kept of it: none of the service's business."""
_STATUS: Final[tuple[tuple[type[SottovoceError], int], ...]] = (
    (RefusedError, 403),
    (TooMuchError, 413),
    (ConfigError, 500),
    (UsageError, 400),
    (UnavailableError, 503),
    (SottovoceError, 502),
)


class Completes(Protocol):
    """What is needed of a client."""

    def complete(
        self, target: str, body: bytes = b"", *, method: str = "POST"
    ) -> AsyncGenerator[RawEvent, None]:
        """As `Client.complete`."""


def request_body(data: bytes) -> bytes:
    """The body of a request as it is sent.

    Raises:
        UsageError: it is no JSON object.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UsageError("the request is not a JSON object")
    for name in _TELLING:
        document.pop(name, None)
    return json.dumps(document, ensure_ascii=False).encode("utf-8", errors="replace")


def error_document(code: str, message: str, kind: str = REQUEST_FAULT) -> bytes:
    """An error as the interface writes it, in JSON."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


def told(error: SottovoceError) -> tuple[int, bytes]:
    """The HTTP status for `error`, and the error as the interface writes it."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    message = f"{error} ({error.hint})" if error.hint else str(error)
    kind = REQUEST_FAULT if status < 500 else _SERVICE_FAULT  # noqa: PLR2004 - RFC 9110 section 15.6
    return status, error_document(error.code, message, kind)
