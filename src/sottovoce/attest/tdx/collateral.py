"""What Intel says about a platform: certificates, revocation lists, patch levels (Intel PCS API v4), as one JSON document.

The members are those of the `dcap-qvl` library and its tools: pck_crl_issuer_chain, root_ca_crl, pck_crl, tcb_info_issuer_chain,
tcb_info, tcb_info_signature, qe_identity_issuer_chain, qe_identity, qe_identity_signature. The two documents may also be whole answers
of Intel's service, {"tcbInfo":…,"signature":"…"}, and then need no member for the signature. Lists are hexadecimal or PEM.
All of it is signed by Intel, and the library verifies it; here only dates, numbers and the signers' certificates are read.
"""

import datetime as dt
import functools
import json
import re
from dataclasses import dataclass
from typing import Any, Final

import dcap_qvl

from sottovoce.attest.certificates import RevocationList
from sottovoce.attest.pem import armored, certificates, plain
from sottovoce.core.errors import CryptoError, DecodeError

__all__ = ["MAX_COLLATERAL", "Collateral", "CollateralAgeError"]

MAX_COLLATERAL: Final = 128 * 1024
_TEXTS: Final = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_OCTETS: Final = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
_DOCUMENTS: Final = {"tcb_info": "tcbInfo", "qe_identity": "enclaveIdentity"}
"""And what each is called in an answer of Intel's service."""
_LISTS: Final = ("root_ca_crl", "pck_crl")
_MEMBERS: Final = frozenset({*_TEXTS, *_OCTETS, *_DOCUMENTS})
_OPTIONAL: Final = frozenset({"pck_certificate_chain"})
_ANSWER: Final = r'\{"%s":(\{.*\}),"signature":"([0-9A-Fa-f]{128})"\}\s*'
_FMSPC: Final = re.compile(r"[0-9A-Fa-f]{12}", re.ASCII)

_HINT: Final = "docs/verifying.md lists its members, and where Intel's service has them"


class CollateralAgeError(CryptoError):
    """The collateral is not valid yet, or not any more."""

    code = "peer.crypto.collateral-age"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """Parsed collateral; nothing is verified yet. Times are unix seconds.

    Attributes:
        issued, next_update: when the last of its parts was issued, and the first of them ends.
        evaluation: the lower of the numbers of Intel's evaluations (tcbEvaluationDataNumber) that its parts are of.
        fmspc: the kind of platform that it is for, 12 hexadecimal digits.
        signers: the certificates of who signed patch levels and enclave identity, and those above them; DER.
        parsed: the library's form.
    """

    issued: int
    next_update: int
    evaluation: int
    fmspc: str
    signers: tuple[tuple[bytes, ...], tuple[bytes, ...]]
    parsed: dcap_qvl.QuoteCollateralV3

    @classmethod
    def parse(cls, data: bytes) -> "Collateral":
        """Parse a collateral document.

        Raises:
            DecodeError: too long, not JSON, or with a missing, unknown or malformed member.
        """
        if len(data) > MAX_COLLATERAL:
            raise DecodeError("the collateral is longer than its limit")
        return _parse(data)

    def require_current(self, *, now: int) -> None:
        """Check that every part is valid at `now`, unix seconds.

        Raises:
            CollateralAgeError: one is not.
        """
        if not self.issued <= now < self.next_update:
            raise CollateralAgeError("a part of the collateral is not valid at this time")

    def within(self, now: int | None) -> int:
        """The time nearest to `now` at which every part is valid; unix seconds. The end of its life without a clock."""
        last = self.next_update - 1
        return last if now is None else max(self.issued, min(now, last))


# The same collateral comes with every session of a host; failures are not kept.
@functools.lru_cache(maxsize=16)
def _parse(data: bytes) -> Collateral:
    try:
        members = _members(data)
        # The library gets certificates as we read them, so that no text can be read in two ways.
        chains = {name: certificates(members[name].encode()) for name in _TEXTS}
        members |= {name: armored(*chain).decode() for name, chain in chains.items()}
        members |= {name: plain(members[name].encode()).hex() for name in _LISTS}
        parsed = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(members))
        documents = [json.loads(members[name]) for name in _DOCUMENTS]
        evaluation = min(map(_evaluation, documents))
        spans = [_span(document) for document in documents]
        spans += [_list_span(bytes.fromhex(members[name])) for name in _LISTS]
    except (ValueError, RecursionError):  # JSON, hexadecimal and dates all raise ValueError
        raise DecodeError("the collateral is malformed") from None
    return Collateral(
        issued=max(start for start, _ in spans),
        next_update=min(end for _, end in spans),
        evaluation=evaluation,
        fmspc=_fmspc(documents[0]),
        signers=(chains["tcb_info_issuer_chain"], chains["qe_identity_issuer_chain"]),
        parsed=parsed,
    )


def _members(data: bytes) -> dict[str, str]:
    """The members that the library takes, all of them text."""
    members = json.loads(data)
    if not isinstance(members, dict):
        raise DecodeError("the collateral is not a JSON object", hint=_HINT)
    if any(set(members) == {name, "signature"} for name in _DOCUMENTS.values()):
        raise DecodeError("this is one answer of Intel's service, and not all of the collateral", hint=_HINT)
    for name, inner in _DOCUMENTS.items():
        members |= _answer(members, name, inner)
    if missing := _MEMBERS - members.keys():
        raise DecodeError(f"the collateral lacks {', '.join(sorted(missing))}", hint=_HINT)
    if members.keys() - _MEMBERS - _OPTIONAL:
        raise DecodeError("the collateral has an unknown member", hint=_HINT)
    if others := sorted(name for name in _MEMBERS if not isinstance(members[name], str)):
        raise DecodeError(f"not text in the collateral: {', '.join(others)}", hint=_HINT)
    return {name: members[name] for name in sorted(_MEMBERS)}


def _answer(members: dict[str, Any], name: str, inner: str) -> dict[str, str]:
    """The signed text and the signature, of a member that is a whole answer; nothing of any other.

    What Intel signed is the text between, byte for byte (PCS API v4, "Get TDX TCB Info").
    """
    text, signature = members.get(name), f"{name}_signature"
    match = (
        re.fullmatch(_ANSWER % inner, text.strip(), re.ASCII | re.DOTALL) if isinstance(text, str) else None
    )
    if match is None or members.get(signature, match[2]) != match[2]:
        return {}
    return {name: match[1], signature: match[2]}


def _fmspc(document: Any) -> str:
    text = document.get("fmspc")
    if not isinstance(text, str) or not _FMSPC.fullmatch(text):
        raise DecodeError("the collateral names no kind of platform")
    return text.upper()


def _span(document: Any) -> tuple[int, int]:
    if not isinstance(document, dict):
        raise DecodeError("the collateral is malformed")
    return _moment(document.get("issueDate")), _moment(document.get("nextUpdate"))


def _evaluation(document: Any) -> int:
    number = document.get("tcbEvaluationDataNumber") if isinstance(document, dict) else None
    if type(number) is not int or number < 0:
        raise DecodeError("the collateral has no evaluation number")
    return number


def _moment(text: Any) -> int:
    if not isinstance(text, str):
        raise DecodeError("the collateral has no dates")
    return int(dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC).timestamp())


def _list_span(der: bytes) -> tuple[int, int]:
    revoked = RevocationList.parse(der)
    return revoked.this_update, revoked.next_update
