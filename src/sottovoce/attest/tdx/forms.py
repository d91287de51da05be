"""Quotes and event logs as people keep them: bytes, hexadecimal, PEM, base64 (RFC 4648), told apart by content; a quote also in JSON.

    {"quote": …}, {"td_quote": …} or {"tdx": {"quote": …}}; beside it runtime_data, user_data and verifier_nonce, which are not looked at

There bytes are a list of numbers, hexadecimal or base64. Documents with more than that hold evidence of something else as well: they are
refused, so that nobody takes for verified what was not read.
"""

import json
from typing import Any, Final

from sottovoce.attest.pem import plain
from sottovoce.core.errors import DecodeError

__all__ = ["read_event_log", "read_quote"]

_LIMIT: Final = 256 * 1024
_QUOTES: Final = frozenset({"quote", "td_quote"})
_BESIDE: Final = frozenset({"runtime_data", "user_data", "verifier_nonce"})
_BYTE: Final = range(256)
# What is often taken for a quote or a log, by how it begins: Microsoft, "hcl_report" of the paravisor; UEFI 2.11 section 38.4.2.
_PARAVISOR: Final = b"HCLA"
_TABLE: Final = b"CCEL"


def read_quote(data: bytes) -> bytes:
    """The quote in `data`. What has none of the forms is returned as it is.

    Raises:
        DecodeError: hexadecimal, PEM or JSON that is not whole, JSON with no quote or with more, or another kind of report.
    """
    if data.lstrip()[:1] == b"{":
        return _member(data)
    return _read(data)


def read_event_log(data: bytes) -> bytes:
    """The event log in `data`. What has none of the forms is returned as it is.

    Raises:
        DecodeError: hexadecimal or PEM that is not whole, or the table that points to the log.
    """
    return _read(data)


def _read(data: bytes) -> bytes:
    found = plain(data)
    if found.startswith(_PARAVISOR):
        raise DecodeError(
            "this is a paravisor's report, not a TDX quote",
            hint="the quote that Azure's metadata service made of it is what can be verified",
        )
    if found.startswith(_TABLE):
        raise DecodeError(
            "this is the table that says where the event log is, not the log",
            hint="Linux shows the log as /sys/firmware/acpi/tables/data/CCEL",
        )
    return found


def _member(data: bytes) -> bytes:
    members = _object(data)
    if set(members) == {"tdx"} and isinstance(members["tdx"], dict):
        members = members["tdx"]
    names = _QUOTES & members.keys()
    if len(names) != 1:
        raise DecodeError("the JSON document does not hold one TDX quote", hint="its member is named quote")
    if members.keys() - names - _BESIDE:
        raise DecodeError(
            "the JSON document holds more than a TDX quote",
            hint="only the quote can be verified: write it to a file of its own",
        )
    (name,) = names
    return _octets(members[name])


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > _LIMIT:
        raise DecodeError("the JSON document is longer than its limit")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise DecodeError("the JSON document is malformed") from None
    if not isinstance(value, dict):
        raise DecodeError("the JSON document is not an object")
    return value


def _octets(value: Any) -> bytes:
    if isinstance(value, list) and all(type(one) is int and one in _BYTE for one in value):
        return bytes(value)
    if isinstance(value, str) and value.isascii():
        return _read(value.encode())
    raise DecodeError("the JSON document has a quote in an unknown form")
