"""Evidence on the wire (protocol section 5): a CMW record (RFC 9999) around one deterministic CBOR map."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sottovoce.attest.simulated import SIMULATED_KIND
from sottovoce.core import cbor
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.core.limits import LIMITS
from sottovoce.tlog.entries import ROLES

__all__ = [
    "EVIDENCE_TYPE",
    "PLATFORMS",
    "TDX_KIND",
    "Backend",
    "Batch",
    "Endorsements",
    "Evidence",
    "Logged",
    "Platform",
]

EVIDENCE_TYPE: Final = "application/vnd.sottovoce.evidence+cbor"
TDX_KIND: Final = "tdx"
# The CMW media types of the platform's own evidence.
PLATFORMS: Final = {
    "sev-snp": "application/vnd.amd.sev-snp-report",
    TDX_KIND: "application/vnd.intel.tdx-quote",
    SIMULATED_KIND: "application/vnd.sottovoce.simulated-snp-report",
}
# Protocol section 5: the keys of the map
_PLATFORM, _ENDORSEMENTS, _BATCH, _RELEASE, _HOST, _ACCELERATORS, _BACKENDS = range(1, 8)
_MAX_BATCH: Final = 1 << 16
"""Sessions that can arrive within the 10 ms of a batch, generously."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What the security processor signed: its kind (a key of `PLATFORMS`) and its bytes."""

    kind: str
    report: bytes

    def __post_init__(self) -> None:
        if self.kind not in PLATFORMS:
            raise UsageError("evidence needs a known platform")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsements:
    """What the vendor says about the platform's key.

    Attributes:
        vcek, ask, crl: AMD's certificates and revocation list, DER; empty on TDX.
        collateral: Intel's, one JSON document (`attest.tdx.collateral`); empty on SEV-SNP.
    """

    vcek: bytes = b""
    ask: bytes = b""
    crl: bytes = b""
    collateral: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Where this session's leaf is among those that one report serves."""

    index: int
    size: int
    path: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.size <= _MAX_BATCH:
            raise DecodeError("the evidence has a batch that cannot be")


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A log entry with its tlog-proof."""

    entry: bytes
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The orchestrator's appraisal of one back end: role, launch measurement (48 bytes), release, host."""

    role: str
    measurement: bytes
    release: Logged
    host: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise DecodeError("the evidence has a back end of an unknown role")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a CVM shows about itself."""

    platform: Platform
    endorsements: Endorsements
    batch: Batch
    release: Logged
    host: Logged
    accelerators: tuple[bytes, ...] = ()
    backends: tuple[Backend, ...] = ()

    def encode(self) -> bytes:
        """The record, `[media type, bytes]` (RFC 9999 section 3.1); it decodes to an equal value."""
        body = {
            _PLATFORM: [PLATFORMS[self.platform.kind], self.platform.report],
            _ENDORSEMENTS: _members(self.platform.kind, self.endorsements),
            _BATCH: [self.batch.index, self.batch.size, list(self.batch.path)],
            _RELEASE: [self.release.entry, self.release.proof],
            _HOST: [self.host.entry, self.host.proof],
            _ACCELERATORS: list(self.accelerators),
            _BACKENDS: [
                [b.role, b.measurement, [b.release.entry, b.release.proof], b.host] for b in self.backends
            ],
        }
        return cbor.encode([EVIDENCE_TYPE, cbor.encode(body)])

    @classmethod
    def decode(cls, data: bytes) -> "Evidence":
        """Parse evidence, within the limits of protocol section 6.1.

        Raises:
            DecodeError: too long, malformed, or with a missing or unknown member.
        """
        record = _array(cbor.decode(data, limit=LIMITS.evidence), str, bytes)
        if record[0] != EVIDENCE_TYPE:
            raise DecodeError("the CMW record has another media type")
        body = cbor.decode(record[1], limit=LIMITS.evidence)
        if not isinstance(body, dict) or set(body) != set(range(_PLATFORM, _BACKENDS + 1)):
            raise DecodeError("the evidence has missing or unknown members")
        platform = _platform(body[_PLATFORM])
        return cls(
            platform=platform,
            endorsements=_endorsements(platform.kind, body[_ENDORSEMENTS]),
            batch=_batch(body[_BATCH]),
            release=_logged(body[_RELEASE]),
            host=_logged(body[_HOST]),
            accelerators=tuple(_list(body[_ACCELERATORS], bytes)),
            backends=tuple(map(_backend, _list(body[_BACKENDS], list))),
        )


def _array(value: Any, *types: type) -> list[Any]:
    if not isinstance(value, list) or len(value) != len(types):
        raise DecodeError("the evidence has an array of the wrong length")
    if any(type(item) is not kind for item, kind in zip(value, types, strict=True)):
        raise DecodeError("the evidence has a value of the wrong type")
    return value


def _list(value: Any, kind: type) -> list[Any]:
    if not isinstance(value, list) or any(type(item) is not kind for item in value):
        raise DecodeError("the evidence has a value of the wrong type")
    return value


_KINDS: Final[Mapping[str, str]] = {media: kind for kind, media in PLATFORMS.items()}


def _platform(value: Any) -> Platform:
    media, report = _array(value, str, bytes)
    if media not in _KINDS:
        raise DecodeError("the evidence is of an unknown platform")
    return Platform(kind=_KINDS[media], report=report)


def _members(kind: str, endorsements: Endorsements) -> list[bytes]:
    e = endorsements
    return [e.collateral] if kind == TDX_KIND else [e.vcek, e.ask, e.crl]


def _endorsements(kind: str, value: Any) -> Endorsements:
    if kind == TDX_KIND:
        return Endorsements(collateral=_array(value, bytes)[0])
    vcek, ask, crl = _array(value, bytes, bytes, bytes)
    return Endorsements(vcek=vcek, ask=ask, crl=crl)


def _batch(value: Any) -> Batch:
    index, size, path = _array(value, int, int, list)
    return Batch(index=index, size=size, path=tuple(_list(path, bytes)))


def _logged(value: Any) -> Logged:
    entry, proof = _array(value, bytes, bytes)
    return Logged(entry=entry, proof=proof)


def _backend(value: Any) -> Backend:
    role, measurement, release, host = _array(value, str, bytes, list, str)
    return Backend(role=role, measurement=measurement, release=_logged(release), host=host)
