"""What Intel says about a platform: certificates, revocation lists, patch levels (Intel PCS API v4), as one JSON document.

The members are those of the `dcap-qvl` library and its tools: pck_crl_issuer_chain, root_ca_crl, pck_crl, tcb_info_issuer_chain,
tcb_info, tcb_info_signature, qe_identity_issuer_chain, qe_identity, qe_identity_signature. All of it is signed by Intel, and the
library verifies it; here only its dates are read.
"""

import datetime as dt
import functools
import json
from dataclasses import dataclass
from typing import Any, Final

import dcap_qvl

from sottovoce.attest.certificates import RevocationList
from sottovoce.core.errors import CryptoError, DecodeError

__all__ = ["MAX_COLLATERAL", "Collateral", "CollateralAgeError"]

MAX_COLLATERAL: Final = 128 * 1024
_TEXTS: Final = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_OCTETS: Final = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
_DOCUMENTS: Final = ("tcb_info", "qe_identity")
_MEMBERS: Final = frozenset({*_TEXTS, *_OCTETS, *_DOCUMENTS})
_OPTIONAL: Final = frozenset({"pck_certificate_chain"})


class CollateralAgeError(CryptoError):
    """The collateral is not valid yet, or not any more."""

    code = "peer.crypto.collateral-age"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """Parsed collateral; nothing is verified yet. Times are unix seconds.

    Attributes:
        issued, next_update: when the last of its parts was issued, and the first of them ends.
        evaluation: the lower of the numbers of Intel's evaluations (tcbEvaluationDataNumber) that its parts are of.
        parsed: the library's form.
    """

    issued: int
    next_update: int
    evaluation: int
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
        members = json.loads(data)
        if not isinstance(members, dict) or set(members) - _OPTIONAL != _MEMBERS:
            raise DecodeError("the collateral has missing or unknown members")
        if not all(isinstance(members[name], str) for name in _MEMBERS):
            raise DecodeError("the collateral has a member of the wrong type")
        parsed = dcap_qvl.QuoteCollateralV3.from_json(
            json.dumps({name: members[name] for name in sorted(_MEMBERS)})
        )
        documents = [json.loads(members[name]) for name in _DOCUMENTS]
        evaluation = min(map(_evaluation, documents))
        spans = [_span(document) for document in documents]
        spans += [_list_span(bytes.fromhex(members[name])) for name in ("root_ca_crl", "pck_crl")]
    except (ValueError, RecursionError):  # JSON, hexadecimal and dates all raise ValueError
        raise DecodeError("the collateral is malformed") from None
    return Collateral(
        issued=max(start for start, _ in spans),
        next_update=min(end for _, end in spans),
        evaluation=evaluation,
        parsed=parsed,
    )


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
