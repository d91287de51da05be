"""JSON documents (RFC 8259) that can be read in one way only."""

import json
from typing import Any

from sottovoce.core.errors import DecodeError

__all__ = ["strict_json"]


def strict_json(data: bytes, what: str) -> Any:
    """The value of a JSON document (RFC 8259) in UTF-8, without floating-point numbers; no object has a member twice.

    Raises:
        DecodeError: it is not such a document; `what` begins the message.
    """

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise DecodeError(f"{what} have a member twice")
        return found

    def refuse(_: str) -> Any:
        raise DecodeError(f"{what} hold a number that is not an integer")

    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=members, parse_float=refuse, parse_constant=refuse
        )
    except (ValueError, RecursionError):
        raise DecodeError(f"{what} are not JSON") from None
