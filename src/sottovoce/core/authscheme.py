"""HTTP authentication fields (RFC 9110 section 11) with base64url values (RFC 4648 section 5).

    WWW-Authenticate = 1#challenge          Authorization = credentials
    challenge, credentials = auth-scheme 1*SP #auth-param
    auth-param = token BWS "=" BWS ( token / quoted-string )

No token68: a scheme that has one (Basic, Negotiate) is refused here, and not used anywhere else.

DEVIATION: an unquoted value may end in the padding of base64url, "=", which is no `tchar`. RFC 9577 section
2.1.1 leaves open whether such values are quoted, and deployed origins send both.
"""

import base64
import re
from dataclasses import dataclass
from typing import Final

from sottovoce.core.errors import DecodeError

__all__ = ["Challenge", "from_base64url", "parse_fields", "to_base64url"]

_FIELD_LIMIT: Final = 16 * 1024
"""Longer than any server's limit for all header fields together."""

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME: Final = re.compile(rb"(" + _TOKEN + rb") +(?=[^ ])")
# RFC 9110 section 5.6.4: qdtext and quoted-pair; obs-text is left out on purpose.
_PARAM: Final = re.compile(
    rb"(" + _TOKEN + rb")[ \t]*=[ \t]*"
    rb"(?:(" + _TOKEN + rb"=*)|\"([\t !#-\[\]-~]*(?:\\[\t -~][\t !#-\[\]-~]*)*)\")[ \t]*(?=,|\Z)"
)
_SEPARATOR: Final = re.compile(rb"[ \t]*(?:,[ \t]*)+|[ \t]*\Z")
_BASE64URL: Final = re.compile(rb"[A-Za-z0-9_-]*={0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge, or one set of credentials: scheme and parameter names in lower case."""

    scheme: bytes
    parameters: dict[bytes, bytes]


def parse_fields(value: bytes) -> list[Challenge]:
    """Every challenge of a WWW-Authenticate value, or the credentials of an Authorization value.

    Raises:
        DecodeError: outside the grammar, too long, or a parameter given twice.
    """
    if len(value) > _FIELD_LIMIT:
        raise DecodeError("authentication field longer than its limit")
    challenges: list[Challenge] = []
    at = 0
    while at < len(value):
        # A scheme is a token followed by a space and no "=": what else stands here is a parameter.
        param = _PARAM.match(value, at)
        scheme = None if param else _SCHEME.match(value, at)
        if scheme:
            challenges.append(Challenge(scheme=scheme[1].lower(), parameters={}))
            at = scheme.end()
            param = _PARAM.match(value, at)
        if not param or not challenges:
            raise DecodeError("authentication field outside the grammar")
        _add(challenges[-1].parameters, param)
        at = _next(value, param.end())
    if not challenges:
        raise DecodeError("authentication field is empty")
    return challenges


def _add(parameters: dict[bytes, bytes], match: re.Match[bytes]) -> None:
    name = match[1].lower()
    if name in parameters:
        raise DecodeError("authentication parameter given twice")
    quoted = match[3]
    if quoted is not None and b"\\" in quoted:
        quoted = re.sub(rb"\\(.)", rb"\1", quoted)
    parameters[name] = match[2] if quoted is None else quoted


def _next(value: bytes, at: int) -> int:
    separator = _SEPARATOR.match(value, at)
    if not separator:
        raise DecodeError("authentication field outside the grammar")
    if separator.end() == len(value) and b"," in separator[0]:
        raise DecodeError("authentication field ends in a comma")
    return separator.end()


def to_base64url(data: bytes) -> bytes:
    """Base64url with padding, as RFC 9577 section 2.1.1 asks."""
    return base64.urlsafe_b64encode(data)


def from_base64url(text: bytes) -> bytes:
    """The bytes of which `text` is the one base64url encoding, padding included.

    Raises:
        DecodeError: other characters, missing padding, or bits set beyond the last byte.
    """
    if len(text) % 4 or not _BASE64URL.fullmatch(text):
        raise DecodeError("base64url with wrong characters or padding")
    data = base64.urlsafe_b64decode(text)
    if base64.urlsafe_b64encode(data) != text:
        raise DecodeError("base64url that is not canonical")
    return data
