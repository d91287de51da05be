"""What Binary HTTP messages (RFC 9292) are made of. Each value is checked when it is made, so an illegal one cannot be written."""

import re
from dataclasses import dataclass, field
from typing import Final

from sottovoce.core.errors import ProtocolError, UsageError

__all__ = [
    "FINAL_STATUS",
    "INFORMATIONAL_STATUS",
    "Content",
    "End",
    "Head",
    "Headers",
    "Informational",
    "Request",
    "RequestHead",
    "Response",
    "header",
]

Headers = tuple[tuple[bytes, bytes], ...]
FINAL_STATUS: Final = range(200, 600)  # RFC 9292 section 3.5
INFORMATIONAL_STATUS: Final = range(100, 200)  # section 3.5.1

_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 9.1: token
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*")  # RFC 3986 section 3.1
_AUTHORITY: Final = re.compile(rb"[^\x00-\x20\x7f-\xff@/?#]*")  # RFC 9113 section 8.3.1: no user information
_PATH: Final = re.compile(rb"/[\x21-\x7e]*|\*")  # RFC 9113 section 8.3.1
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")  # RFC 9113 section 8.2.1: a token in lower case
_BAD_VALUE: Final = re.compile(rb"[\x00\r\n]|^[ \t]|[ \t]\Z")  # RFC 9113 section 8.2.1


def _check_fields(fields: Headers) -> None:
    for name, value in fields:
        if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
            raise UsageError("a header or trailer of the binary HTTP message is malformed")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """Control data and headers of a request (RFC 9292 section 3.4).

    DEVIATION: CONNECT, which has neither scheme nor path, is refused.
    """

    method: bytes
    scheme: bytes
    authority: bytes
    path: bytes
    headers: Headers = ()

    def __post_init__(self) -> None:
        _check_fields(self.headers)
        if not (
            _METHOD.fullmatch(self.method)
            and _SCHEME.fullmatch(self.scheme)
            and _AUTHORITY.fullmatch(self.authority)
            and _PATH.fullmatch(self.path)
        ):
            raise UsageError("the binary HTTP request has malformed control data")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(RequestHead):
    """A whole request."""

    content: bytes = field(default=b"", repr=False)
    trailers: Headers = ()

    def __post_init__(self) -> None:
        RequestHead.__post_init__(self)
        _check_fields(self.trailers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Informational:
    """An informational response: a status from 100 to 199 (RFC 9292 section 3.5.1)."""

    status: int
    headers: Headers = ()

    def __post_init__(self) -> None:
        _check_fields(self.headers)
        if self.status not in INFORMATIONAL_STATUS:
            raise UsageError("an informational response has a status from 100 to 199")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Status, from 200 to 599, and headers of a response (RFC 9292 section 3.5)."""

    status: int
    headers: Headers = ()

    def __post_init__(self) -> None:
        _check_fields(self.headers)
        if self.status not in FINAL_STATUS:
            raise UsageError("a final response has a status from 200 to 599")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(Head):
    """A whole response, with the informational ones before it."""

    content: bytes = field(default=b"", repr=False)
    trailers: Headers = ()
    informational: tuple[Informational, ...] = ()

    def __post_init__(self) -> None:
        Head.__post_init__(self)
        _check_fields(self.trailers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A piece of content."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The message is complete."""

    trailers: Headers = ()

    def __post_init__(self) -> None:
        _check_fields(self.trailers)


def header(headers: Headers, name: bytes) -> bytes | None:
    """The one value of `name`, which is in lower case.

    Raises:
        ProtocolError: it is there more than once.
    """
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise ProtocolError("a header that must be single is repeated")
    return values[0] if values else None
