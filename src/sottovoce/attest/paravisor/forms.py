"""Evidence as people keep it: JSON of the verifiers that this platform has.

    {"hcl_report": …, "vcek": …, "tpm_quote": {"message": …, "signature": …, "pcrs": [24 of …]}}     also "report" and "quote"; "version"
    {"message": …, "signature": …, "pcrs": …}                                                       a quote alone

Bytes are lists of numbers or hexadecimal; in `hcl_report` and `vcek` base64url (RFC 4648 section 5) or, for the certificate, PEM.
What else stands there is an error, so that nobody takes for verified what was not read.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from sottovoce.attest.paravisor.claims import base64url
from sottovoce.attest.paravisor.quote import SignedQuote
from sottovoce.attest.pem import certificates
from sottovoce.attest.strictjson import strict_json
from sottovoce.core.errors import DecodeError

__all__ = ["ParavisorEvidence", "parse_evidence", "parse_quote"]

_LIMIT: Final = 256 * 1024
_VERSIONS: Final = (None, 1, 2)
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+", re.ASCII)
_BYTE: Final = range(256)
_HINT: Final = "its members are hcl_report, vcek, tpm_quote and version; what they stand under in another document is to be taken away"
_QUOTE_MEMBERS: Final = frozenset({"message", "signature"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ParavisorEvidence:
    """What one document holds.

    Attributes:
        vcek: certificates, DER; the first is the processor's key's. Empty where the document has none.
    """

    report: bytes
    vcek: tuple[bytes, ...]
    quote: SignedQuote | None


def parse_evidence(data: bytes) -> ParavisorEvidence:
    """The evidence in a JSON document.

    Raises:
        DecodeError: it is not such a document, or one with more in it.
    """
    members = _object(data)
    if "td_quote" in members:
        raise DecodeError("this is a TDX machine's evidence", hint="verify tdx reads its td_quote")
    report = _one_of(members, "hcl_report", "report")
    quote = _one_of(members, "tpm_quote", "quote")
    vcek, version = members.pop("vcek", None), members.pop("version", None)
    if members:
        raise DecodeError("the evidence has a member that is not known", hint=_HINT)
    if version not in _VERSIONS or isinstance(version, bool):
        raise DecodeError("the evidence is of an unknown version")
    return ParavisorEvidence(
        report=_octets(report, encoded=True),
        vcek=() if vcek is None else _certificates(vcek),
        quote=None if quote is None else _quote(quote),
    )


def parse_quote(data: bytes) -> SignedQuote:
    """The quote in a JSON document.

    Raises:
        DecodeError: it is not such a document, or one with more in it.
    """
    return _quote(_object(data))


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > _LIMIT:
        raise DecodeError("the evidence is longer than its limit")
    value = strict_json(data, "the members of the evidence")
    if not isinstance(value, dict):
        raise DecodeError("the evidence is not a JSON object")
    return value


def _one_of(members: dict[str, Any], name: str, other: str) -> Any:
    if name in members and other in members:
        raise DecodeError("the evidence has one thing under two names")
    return members.pop(name, members.pop(other, None))


def _quote(value: Any) -> SignedQuote:
    if not isinstance(value, dict) or value.keys() - {"pcrs"} != _QUOTE_MEMBERS:
        raise DecodeError("the quote has other members than message, signature and pcrs")
    pcrs = value.get("pcrs")
    if pcrs is not None and not isinstance(pcrs, list):
        raise DecodeError("the quote's registers are not a list")
    return SignedQuote(
        message=_octets(value["message"]),
        signature=_octets(value["signature"]),
        pcrs=None if pcrs is None else tuple(map(_octets, pcrs)),
    )


def _certificates(value: Any) -> tuple[bytes, ...]:
    if isinstance(value, str) and value.startswith("-----BEGIN ") and value.isascii():
        return certificates(value.encode())
    return (_octets(value, encoded=True),)


def _octets(value: Any, *, encoded: bool = False) -> bytes:
    if isinstance(value, list) and all(type(one) is int and one in _BYTE for one in value):
        return bytes(value)
    if encoded:
        return _base64url(value)
    if isinstance(value, str) and _HEX.fullmatch(value):
        return bytes.fromhex(value)
    raise DecodeError("the evidence has bytes in an unknown form")


def _base64url(value: Any) -> bytes:
    # RFC 4648 section 5; unlike a JWK's, with whole padding or none
    text = value.rstrip("=") if isinstance(value, str) else value
    if isinstance(value, str) and len(value) not in (len(text), len(text) + -len(text) % 4):
        raise DecodeError("the evidence has base64url with wrong padding")
    return base64url(text, "the evidence's bytes")
