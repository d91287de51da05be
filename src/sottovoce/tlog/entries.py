"""Releases, hosts and directories as the log holds them (protocol section 10); artifacts are in `tlog.artifactentries`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sottovoce.core import canonical
from sottovoce.core.errors import DecodeError
from sottovoce.core.limits import LIMITS
from sottovoce.tlog.artifactentries import Artifact
from sottovoce.tlog.members import SHA256, Members, open_entry

__all__ = [
    "ROLES",
    "Accelerator",
    "Directory",
    "Host",
    "Relay",
    "Release",
    "Revocations",
    "TokenKey",
]

_MEASUREMENT: Final = re.compile(r"[0-9a-f]{96}")
_HARDWARE_ID: Final = re.compile(r"[0-9a-f]{16}|[0-9a-f]{32}|[0-9a-f]{128}")
_FLIGHT: Final = re.compile(r"flight")
ROLES: Final = ("orchestrator", "predictor", "guard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A GPU or switch that a release runs with.

    Attributes:
        architecture: such as "HOPPER".
        manifests: SHA-256 digests, hex, of the vendor's reference manifests that its measurements may be held against.
    """

    architecture: str
    manifests: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.manifests:
            raise DecodeError("the release has an accelerator without a reference manifest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A CVM image of one role: the measurements it may have, and until when.

    Attributes:
        measurements: SNP launch digests, 48 bytes each, lower-case hex; one a CPU type and count.
        accelerators: one for each device; all of them must be there, and no others.
        issued, expires: unix seconds; at most 21 days apart (protocol section 10).
    """

    role: str
    version: str
    security_version: int
    platform: str
    measurements: tuple[str, ...]
    vmpl: int
    artifacts: tuple[Artifact, ...]
    accelerators: tuple[Accelerator, ...]
    issued: int
    expires: int

    def __post_init__(self) -> None:
        if self.role not in ROLES or not self.measurements or self.vmpl not in range(4):
            raise DecodeError("the release has an unknown role, no measurement, or no such VMPL")
        if not 0 < self.expires - self.issued <= LIMITS.release_life:
            raise DecodeError("the release lives longer than a release may")

    @classmethod
    def parse(cls, data: bytes) -> "Release":
        """Parse a log entry.

        Raises:
            EntryKindError: an entry of another kind.
            DecodeError: malformed.
        """
        reader = open_entry(data, "release")
        release = cls(
            role=reader.text("role"),
            version=reader.text("version"),
            security_version=reader.integer("security_version"),
            platform=reader.text("platform"),
            measurements=reader.texts("measurements", _MEASUREMENT),
            vmpl=reader.integer("vmpl"),
            artifacts=tuple(map(Artifact.read, reader.items("artifacts", 100))),
            accelerators=tuple(map(_accelerator, reader.items("accelerators", 32))),
            issued=reader.integer("issued"),
            expires=reader.integer("expires"),
        )
        reader.end()
        return release

    def encode(self) -> bytes:
        """The log entry."""
        return canonical.encode(
            {
                "kind": "release",
                "role": self.role,
                "version": self.version,
                "security_version": self.security_version,
                "platform": self.platform,
                "measurements": self.measurements,
                "vmpl": self.vmpl,
                "artifacts": [artifact.members() for artifact in self.artifacts],
                "accelerators": [
                    {"architecture": a.architecture, "manifests": a.manifests} for a in self.accelerators
                ],
                "issued": self.issued,
                "expires": self.expires,
            }
        )


def _accelerator(value: Any) -> Accelerator:
    reader = Members(value, "accelerator")
    accelerator = Accelerator(
        architecture=reader.text("architecture"), manifests=reader.texts("manifests", SHA256)
    )
    reader.end()
    return accelerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine that may run CVMs of one role.

    Attributes:
        hardware_id: the processor's CHIP_ID, lower-case hex: 64 bytes, 8 on Turin; on TDX the platform's PPID, 16 bytes.
    """

    id: str
    role: str
    platform: str
    product: str
    hardware_id: str

    @classmethod
    def parse(cls, data: bytes) -> "Host":
        """Parse a log entry.

        Raises:
            EntryKindError: an entry of another kind.
            DecodeError: malformed.
        """
        return _host(open_entry(data, "host"))

    def encode(self) -> bytes:
        """The log entry."""
        return canonical.encode({"kind": "host", **self.members()})

    def members(self) -> dict[str, str]:
        """The members as they stand in a directory."""
        return {
            "id": self.id,
            "role": self.role,
            "platform": self.platform,
            "product": self.product,
            "hardware_id": self.hardware_id,
        }


def _host(reader: Members) -> Host:
    host = Host(
        id=reader.text("id"),
        role=reader.text("role"),
        platform=reader.text("platform"),
        product=reader.text("product"),
        hardware_id=reader.text("hardware_id", _HARDWARE_ID),
    )
    reader.end()
    return host


_URL: Final = re.compile(r"https?://[A-Za-z0-9.\[\]:-]{1,255}(/[A-Za-z0-9._~/-]{0,255})?")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_OPERATOR: Final = re.compile(r"[^\x00-\x1f]{1,80}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """An oblivious relay: who runs it, and where."""

    operator: str
    url: str
    streams: bool = True
    """Whether it passes chunked messages piece by piece; one that does not has `"carrier": "flight"` in its entry."""

    def members(self) -> dict[str, str]:
        """The members of its JSON object."""
        carrier = {} if self.streams else {"carrier": "flight"}
        return {"operator": self.operator, "url": self.url} | carrier


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """An issuer's public key for one epoch: base64 of the SPKI of RFC 9578 section 8.2.2, or for type 5 of the element."""

    epoch: int
    token_type: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocations:
    """What is not trusted any more, whatever else says so."""

    releases: frozenset[str] = frozenset()
    """SHA-256 of the release's log entry, hex."""
    hosts: frozenset[str] = frozenset()
    """Host ids."""
    certificates: frozenset[str] = frozenset()
    """SHA-256 of the DER certificate, hex."""

    def members(self) -> Mapping[str, list[str]]:
        """The members as they stand in a directory."""
        return {
            "releases": sorted(self.releases),
            "hosts": sorted(self.hosts),
            "certificates": sorted(self.certificates),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The one document of an epoch, the same for everybody (protocol section 3).

    Attributes:
        epoch: days since 1970, UTC.
        not_before, not_after: unix seconds.
        ohttp_key_configs: base64 of an `application/ohttp-keys` list.
    """

    epoch: int
    not_before: int
    not_after: int
    ohttp_key_configs: str
    token_keys: tuple[TokenKey, ...]
    issuer: str
    relays: tuple[Relay, ...]
    hosts: tuple[Host, ...]
    revocations: Revocations
    log_origin: str
    log_quorum: int

    def __post_init__(self) -> None:
        if not (self.token_keys and self.relays and self.hosts):
            raise DecodeError("the directory lacks token keys, relays or hosts")
        if len({host.id for host in self.hosts}) != len(self.hosts):
            raise DecodeError("the directory lists a host twice")

    @classmethod
    def parse(cls, data: bytes) -> "Directory":
        """Parse a log entry.

        Raises:
            EntryKindError: an entry of another kind.
            DecodeError: malformed.
        """
        reader = open_entry(data, "directory", limit=LIMITS.directory)
        log = reader.object("log")
        revoked = reader.object("revocations")
        directory = cls(
            epoch=reader.integer("epoch"),
            not_before=reader.integer("not_before"),
            not_after=reader.integer("not_after"),
            ohttp_key_configs=reader.text("ohttp_key_configs", _BASE64),
            token_keys=tuple(map(_token_key, reader.items("token_keys", 32))),
            issuer=reader.text("issuer"),
            relays=tuple(map(_relay, reader.items("relays", 100))),
            hosts=tuple(_host(Members(item, "host")) for item in reader.items("hosts")),
            revocations=Revocations(
                releases=frozenset(revoked.texts("releases", SHA256)),
                hosts=frozenset(revoked.texts("hosts")),
                certificates=frozenset(revoked.texts("certificates", SHA256)),
            ),
            log_origin=log.text("origin"),
            log_quorum=log.integer("quorum"),
        )
        for part in (reader, log, revoked):
            part.end()
        if directory.encode() != data:
            raise DecodeError("the directory's revocations are not sorted, or name one thing twice")
        return directory

    def encode(self) -> bytes:
        """The log entry, which is also the text of its note without the newline."""
        return canonical.encode({"kind": "directory", **self.members()})

    def members(self) -> dict[str, Any]:
        """All its members but the kind, in an order for people; the entry has them sorted."""
        return {
            "epoch": self.epoch,
            "not_before": self.not_before,
            "not_after": self.not_after,
            "ohttp_key_configs": self.ohttp_key_configs,
            "token_keys": [
                {"epoch": k.epoch, "token_type": k.token_type, "key": k.key} for k in self.token_keys
            ],
            "issuer": self.issuer,
            "relays": [relay.members() for relay in self.relays],
            "hosts": [host.members() for host in self.hosts],
            "revocations": self.revocations.members(),
            "log": {"origin": self.log_origin, "quorum": self.log_quorum},
        }


def _token_key(value: Any) -> TokenKey:
    reader = Members(value, "token key")
    key = TokenKey(
        epoch=reader.integer("epoch"),
        token_type=reader.integer("token_type"),
        key=reader.text("key", _BASE64),
    )
    reader.end()
    return key


def _relay(value: Any) -> Relay:
    reader = Members(value, "relay")
    operator, url = reader.text("operator", _OPERATOR), reader.text("url", _URL)
    # Absent for a relay that streams, which is the rule, so that documents made before there were others are still canonical.
    flight = reader.has("carrier") and bool(reader.text("carrier", _FLIGHT))
    reader.end()
    return Relay(operator=operator, url=url, streams=not flight)
