"""A CVM's own evidence, and its judgement of other CVMs (protocol sections 5 and 6)."""

from dataclasses import dataclass
from typing import Final

from sottovoce.attest.binding import batch_root, report_data
from sottovoce.attest.evidence import Backend, Batch, Evidence, Platform
from sottovoce.attest.verify import Connection, VerifiedSession, verify_session
from sottovoce.core import cbor
from sottovoce.core.errors import DecodeError
from sottovoce.tee.collectors.base import Bundle, Collector
from sottovoce.tee.settings import Settings

__all__ = ["Appraisal", "Attester", "Quote", "appraisal_of", "quote"]

Appraisal = Backend
_LIMIT: Final = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A report, and where in its batch the leaf stands that it was asked for."""

    report: bytes
    batch: Batch

    def encode(self) -> bytes:
        """CBOR, for the channel between parent and session process."""
        return cbor.encode([self.report, self.batch.index, self.batch.size, list(self.batch.path)])

    @classmethod
    def decode(cls, data: bytes) -> "Quote":
        """Parse what `encode` gives.

        Raises:
            DecodeError: malformed.
        """
        value = cbor.decode(data, limit=_LIMIT)
        if not isinstance(value, list) or [type(item) for item in value] != [bytes, int, int, list]:
            raise DecodeError("the quote is malformed")
        report, index, size, path = value
        return cls(report=report, batch=Batch(index=index, size=size, path=tuple(path)))


def quote(collector: Collector, leaf: bytes) -> Quote:
    """A report for `leaf`, 32 bytes, alone in its batch.

    Raises:
        UnavailableError: the security processor does not answer.
    """
    root = batch_root(leaf, index=0, size=1, path=())
    return Quote(report=collector.report(report_data(root)), batch=Batch(index=0, size=1, path=()))


class Attester:
    """Makes evidence from quotes, and verifies that of peers under the measured policy."""

    def __init__(self, settings: Settings, *, kind: str, bundle: Bundle) -> None:
        self._kind = kind
        self._bundle = bundle
        self._policies = {role: settings.peer_policy(role) for role in settings.peers}

    def evidence(self, quote: Quote, *, backends: tuple[Appraisal, ...] = ()) -> bytes:
        """This CVM's evidence on the wire."""
        return Evidence(
            platform=Platform(kind=self._kind, report=quote.report),
            endorsements=self._bundle.endorsements,
            batch=quote.batch,
            release=self._bundle.release,
            host=self._bundle.host,
            backends=backends,
        ).encode()

    def verify_peer(
        self, role: str, evidence: bytes, *, exporter: bytes, spki: bytes, from_client: bool
    ) -> VerifiedSession:
        """The peer's verified session, if the peer is a logged release of `role`.

        Dates are left out: a CVM has no clock that it can trust, and the device checks them.

        Raises:
            VerificationRefused: a check failed.
        """
        connection = Connection(exporter=exporter, spki=spki, now=None, from_client=from_client)
        return verify_session(evidence, policy=self._policies[role], connection=connection)


def appraisal_of(session: VerifiedSession) -> Appraisal:
    """What the orchestrator's evidence says about a back end that it has verified."""
    return Appraisal(
        role=session.release.role,
        measurement=session.platform.measurement,
        release=session.evidence.release,
        host=session.host.id,
    )
