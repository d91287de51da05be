"""From evidence to a verified session. The steps carry the numbers of protocol section 6.

 1. decode                       7. binding to this connection
 2. certificate chain            8. measurement, role, dates, minimum version, revocation of the release
 3. report signature             9. log proof of the release
 4. patch levels                10. log proof of the host
 5. hardware id and host        11. accelerators
 6. guest policy and platform   12. back ends

Every line that can be evaluated is, so that a refusal shows all that is wrong; one failed line refuses.
"""

import functools
import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from sottovoce.attest.binding import accelerator_nonce, batch_root, peer_leaf, report_data, session_leaf
from sottovoce.attest.evidence import TDX_KIND, Backend, Evidence, Logged
from sottovoce.attest.logged import LogSteps
from sottovoce.attest.platform import AppraisedPlatform
from sottovoce.attest.policy import BACKEND_ROLES, SessionPolicy
from sottovoce.attest.rules import session_rules
from sottovoce.attest.snp import appraisal as snp
from sottovoce.attest.verdict import Checklist, Verdict, VerificationRefused, quietly
from sottovoce.core.errors import PeerError, UsageError
from sottovoce.tlog.entries import Host, Release, Revocations
from sottovoce.tlog.history import History
from sottovoce.tlog.policy import VerifiedCheckpoint

if TYPE_CHECKING:
    from sottovoce.attest.nvidia.evidence import DeviceEvidence

__all__ = ["Connection", "VerifiedSession", "verify_session"]

_MADE_BY_VERIFIER: Final = object()
_DAY: Final = 86400
_SHORT: Final = 16
# The same few releases and hosts come with session after session; failures are not kept.
_release_of: Final = functools.lru_cache(maxsize=64)(Release.parse)
_host_of: Final = functools.lru_cache(maxsize=64)(Host.parse)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What evidence must be bound to, and what this verifier knows of the moment.

    Attributes:
        exporter: TLS exporter, 32 bytes.
        spki: the server's public key, DER.
        now: unix seconds; None where there is no trusted clock (a CVM): what needs one is then left to the device.
        candidates: the hosts that this device drew; None between CVMs.
        hosts: the hosts of the directory; None between CVMs, where the host's log proof alone counts.
        revocations: from the directory; None where the directory of that day is not at hand.
        seen: the last checkpoint that this device accepted.
        history: how earlier tree heads lead to `seen`; without it, evidence under another one is refused.
        from_client: the evidence is a client's (between CVMs).
    """

    exporter: bytes
    spki: bytes
    now: int | None
    candidates: Collection[str] | None = None
    hosts: Collection[Host] | None = None
    revocations: Revocations | None = field(default_factory=Revocations)
    seen: VerifiedCheckpoint | None = None
    history: History | None = None
    from_client: bool = False


class VerifiedSession:
    """Evidence that passed every check, for one connection. Only `verify_session` makes it."""

    __slots__ = ("evidence", "exporter", "host", "log_indexes", "platform", "release", "spki", "verdict")

    def __init__(self, made_by: object, **values: Any) -> None:
        if made_by is not _MADE_BY_VERIFIER:
            raise UsageError("only the verifier makes a verified session")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    evidence: Evidence
    exporter: bytes
    spki: bytes
    verdict: Verdict
    platform: AppraisedPlatform
    release: Release
    host: Host
    log_indexes: tuple[int, int]

    def __setattr__(self, name: str, value: Any) -> None:
        raise UsageError("a verified session does not change")

    def __repr__(self) -> str:
        return f"<VerifiedSession {self.release.role} on {self.host.id}>"


def verify_session(evidence: bytes, *, policy: SessionPolicy, connection: Connection) -> VerifiedSession:
    """The verified session, if every check of protocol section 6 passes or is relaxed by the policy.

    Raises:
        VerificationRefused: a check failed; it carries the whole verdict.
    """
    decoded, fault = _decoded(evidence)
    devices = _devices(decoded) if decoded and policy.nvidia else None
    checks = _checklist(decoded, policy, devices or ())
    checks.add(
        "decode", ok=decoded is not None, found=fault or "yes", wanted="one CMW record, at most 64 KiB"
    )
    parts = _Verifier(decoded, policy, connection, checks, devices).run() if decoded else None
    unasked = {f"backend-{role}" for role in BACKEND_ROLES if role not in policy.require_backends}
    verdict = checks.verdict(without=unasked)
    if verdict.failed or decoded is None or parts is None:
        raise VerificationRefused(verdict)
    return VerifiedSession(
        _MADE_BY_VERIFIER,
        evidence=decoded,
        exporter=connection.exporter,
        spki=connection.spki,
        verdict=verdict,
        platform=parts.platform,
        release=parts.release,
        host=parts.host,
        log_indexes=parts.log_indexes,
    )


def _decoded(evidence: bytes) -> tuple[Evidence | None, str]:
    try:
        return Evidence.decode(evidence), ""
    except PeerError as error:
        return None, str(error)


def _devices(decoded: Evidence) -> "tuple[DeviceEvidence, ...] | None":
    if not decoded.accelerators:
        return ()
    from sottovoce.attest.nvidia.session import decode_devices  # noqa: PLC0415 - only a release with GPUs needs it

    return quietly(lambda: decode_devices(decoded.accelerators))


def _checklist(
    decoded: Evidence | None, policy: SessionPolicy, devices: "tuple[DeviceEvidence, ...]"
) -> Checklist:
    kind = decoded.platform.kind if decoded else ""
    tightened, lowered = policy.snp.tightened, policy.snp.lowered
    if kind == TDX_KIND:
        demanded = policy.tdx is not None and policy.tdx.evaluation is not None
        tightened = frozenset({"tdx-evaluation"}) if demanded else frozenset()
        lowered = policy.tdx.lowered if policy.tdx else frozenset()
    rules = session_rules(kind, tightened)
    if devices:
        from sottovoce.attest.nvidia.session import accelerator_rules  # noqa: PLC0415 - as above

        rules = {**rules, **accelerator_rules(devices)}
        weaker = policy.nvidia.lowered if policy.nvidia else frozenset()
        lowered |= {check for check in rules if check.rpartition("/")[2] in weaker}
    return Checklist(rules, relaxed=policy.relaxed, lowered=lowered)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    platform: AppraisedPlatform
    release: Release
    host: Host
    log_indexes: tuple[int, int]


class _Verifier:
    def __init__(
        self,
        evidence: Evidence,
        policy: SessionPolicy,
        connection: Connection,
        checks: Checklist,
        devices: "tuple[DeviceEvidence, ...] | None",
    ) -> None:
        self._evidence = evidence
        self._policy = policy
        self._at = connection
        self._checks = checks
        self._devices = devices
        leaf_of, batch = peer_leaf if connection.from_client else session_leaf, evidence.batch
        leaf = leaf_of(connection.exporter, connection.spki)
        self._root = quietly(lambda: batch_root(leaf, index=batch.index, size=batch.size, path=batch.path))
        self._log = LogSteps(
            policy.log, checks, now=connection.now, seen=connection.seen, history=connection.history
        )

    def run(self) -> _Parts | None:
        """Steps 2 to 12; None if one of them could not go on, which the checklist then says."""
        evidence = self._evidence
        # 2, 3, 4, 6 and the certificate's side of 5.
        platform = self._tdx() if evidence.platform.kind == TDX_KIND else self._snp()
        # 5 and 10.
        logged_host = self._log.entry("host", evidence.host)
        host = self._host(platform)
        # 7.
        if platform is not None:
            self._binding(platform)
        # 8 and 9.
        logged_release = self._log.entry("release", evidence.release)
        release = self._release(platform)
        # 11.
        self._accelerators(release)
        # 12.
        self._backends()
        self._log.compare()
        if platform is None or host is None or release is None:
            return None
        if logged_host is None or logged_release is None:
            return None
        indexes = logged_release.index, logged_host.index
        return _Parts(platform=platform, release=release, host=host, log_indexes=indexes)

    def _snp(self) -> AppraisedPlatform | None:
        at, shown = self._at, self._evidence
        appraised = snp.appraise(
            shown.platform.report,
            shown.endorsements,
            self._policy.snp,
            self._checks,
            kind=shown.platform.kind,
            now=at.now,
            revoked=at.revocations.certificates if at.revocations else frozenset(),
        )
        return appraised[0] if appraised else None

    def _tdx(self) -> AppraisedPlatform | None:
        from sottovoce.attest.tdx import appraisal as tdx  # noqa: PLC0415 - a large library, which only a quote needs

        shown, policy = self._evidence, self._policy.tdx
        if policy is None:
            self._checks.add("tdx-signature", ok=False, found="a quote", wanted="no root for one is pinned")
            return None
        collateral = shown.endorsements.collateral
        appraised = tdx.appraise(shown.platform.report, collateral, policy, self._checks, now=self._at.now)
        return appraised[0] if appraised else None

    # 5. The host's entry, the directory's host list, the candidates.
    def _host(self, platform: AppraisedPlatform | None) -> Host | None:
        host = quietly(lambda: _host_of(self._evidence.host.entry))
        if platform is not None and platform.product:
            self._listed(platform, host)
        if host is not None:
            self._candidate(host)
        return host

    def _listed(self, platform: AppraisedPlatform, host: Host | None) -> None:
        at, role = self._at, self._policy.role
        kind, short = self._evidence.platform.kind, platform.hardware_id.hex()[:_SHORT]
        listed = (
            host is not None
            and (host.hardware_id, host.product, host.platform, host.role)
            == (platform.hardware_id.hex(), platform.product, kind, role)
            and (at.hosts is None or host in at.hosts)
            and (at.revocations is None or host.id not in at.revocations.hosts)
        )
        self._checks.add(
            "host",
            ok=listed,
            found=host.id if host is not None and listed else f"{short}… is not listed or is revoked",
            wanted=f"a listed {platform.product} host for the role {role}",
        )

    def _candidate(self, host: Host) -> None:
        drawn = self._at.candidates
        if drawn is None:
            self._checks.skip("candidate", "between CVMs no candidates are drawn")
            return
        wanted = " or ".join(sorted(drawn)) or "a candidate"
        self._checks.add("candidate", ok=host.id in drawn, found=host.id, wanted=wanted)

    # 7. Binding.
    def _binding(self, platform: AppraisedPlatform) -> None:
        wanted = report_data(self._root) if self._root is not None else None
        self._checks.add(
            "binding",
            ok=wanted is not None and platform.report_data == wanted,
            found=f"{platform.report_data.hex()[:_SHORT]}…",
            wanted=f"{wanted.hex()[:_SHORT]}…, from this connection's exporter"
            if wanted is not None
            else "a batch proof that fits",
        )

    # 8. Release.
    def _release(self, platform: AppraisedPlatform | None) -> Release | None:
        try:
            release = _release_of(self._evidence.release.entry)
        except PeerError as error:
            self._checks.add("measurement", ok=False, found=str(error), wanted="a release")
            return None
        if platform is not None:
            self._measurement(platform, release)
        self._release_rules(release)
        self._release_dates(release)
        return release

    def _measurement(self, platform: AppraisedPlatform, release: Release) -> None:
        add, measured = self._checks.add, platform.measurement.hex()
        wanted = " or ".join(f"{value[:_SHORT]}…" for value in release.measurements)
        add("measurement", ok=measured in release.measurements, found=f"{measured[:_SHORT]}…", wanted=wanted)
        if platform.vmpl is not None:
            ok, found = platform.vmpl == release.vmpl, str(platform.vmpl)
            add("vmpl", ok=ok, found=found, wanted=str(release.vmpl))

    def _release_rules(self, release: Release) -> None:
        add, minimum = self._checks.add, self._policy.minimum_security_version
        role, kind, version = self._policy.role, self._evidence.platform.kind, release.security_version
        add("role", ok=release.role == role, found=release.role, wanted=role)
        add("platform", ok=release.platform == kind, found=release.platform, wanted=kind)
        add("security-version", ok=version >= minimum, found=str(version), wanted=f"at least {minimum}")
        if self._at.revocations is None:
            self._checks.skip("release-revoked", "the directory of that day is not at hand")
            return
        revoked = _digest(self._evidence.release) in self._at.revocations.releases
        found = "revoked" if revoked else "not revoked"
        add("release-revoked", ok=not revoked, found=found, wanted="not revoked")

    def _release_dates(self, release: Release) -> None:
        if (now := self._at.now) is None:
            self._checks.skip("release-dates", "left to the device, which has a clock")
            return
        self._checks.add(
            "release-dates",
            ok=release.issued <= now < release.expires,
            found=f"{(release.expires - now) / _DAY:.1f} days left",
            wanted="issued, and not expired",
        )

    # 11. Accelerators.
    def _accelerators(self, release: Release | None) -> None:
        declared = release.accelerators if release else ()
        if not self._evidence.accelerators and not declared:
            found = "not declared, none shown"
            self._checks.add("accelerators", ok=release is not None, found=found, wanted="those declared")
            return
        policy, at = self._policy.nvidia, self._at
        if policy is None or self._devices is None:
            found = "malformed evidence" if policy else "no vendor's root is pinned"
            self._checks.add("accelerators", ok=False, found=found, wanted="those declared")
            return
        if release is None or self._root is None:
            return  # every line stands as one that could not be checked, which refuses
        from sottovoce.attest.nvidia.session import appraise_accelerators  # noqa: PLC0415 - as above

        appraise_accelerators(
            self._devices,
            declared,
            nonce=accelerator_nonce(self._root),
            policy=replace(policy, revoked=_united(policy.revoked, at.revocations)),
            manifests=self._policy.manifests,
            now=at.now,
            checks=self._checks,
        )

    # 12. Back ends.
    def _backends(self) -> None:
        required, shown = self._policy.require_backends, self._evidence.backends
        for role in required:
            found = [backend for backend in shown if backend.role == role]
            wanted = f"one appraisal of a logged {role}"
            if len(found) == 1:
                reason = self._backend_fault(found[0])
                # Which machine it is, only the directory can confirm: evidence has no proof of a back end's host.
                on = "on" if self._at.hosts is not None else "said to be on"
                name = f"{on} {found[0].host}, {found[0].measurement.hex()[:_SHORT]}…"
                self._checks.add(f"backend-{role}", ok=not reason, found=reason or name, wanted=wanted)
            else:
                text = f"{len(found)} appraisals are shown; without one, it has verified no {role}"
                self._checks.add(f"backend-{role}", ok=False, found=text, wanted=wanted)
        others = sum(backend.role not in required for backend in shown)
        self._checks.add("backends-only", ok=not others, found=f"{others} others", wanted="none")

    def _backend_fault(self, backend: Backend) -> str:
        at, role = self._at, backend.role
        try:
            release = self._log.backend(backend.release, _release_of)
        except PeerError as error:
            return str(error)
        kind = self._evidence.platform.kind
        hosts = None if at.hosts is None else {(host.id, host.role, host.platform) for host in at.hosts}
        faults = {
            "its release has another role": release.role != role,
            "its release is for another platform": release.platform != kind,
            "its measurement is not the release's": backend.measurement.hex() not in release.measurements,
            "its release is too old": release.security_version < self._policy.minimum_security_version,
            "its release is not valid now": at.now is not None
            and not release.issued <= at.now < release.expires,
            "its release is revoked": at.revocations is not None
            and _digest(backend.release) in at.revocations.releases,
            "its host is revoked": at.revocations is not None and backend.host in at.revocations.hosts,
            "its host is not in the directory": hosts is not None and (backend.host, role, kind) not in hosts,
        }
        return "; ".join(text for text, is_so in faults.items() if is_so)


def _united(revoked: frozenset[str] | None, directory: Revocations | None) -> frozenset[str] | None:
    """What either of the policy and the directory revokes; None where there is neither."""
    if directory is None:
        return revoked
    return directory.certificates | (revoked or frozenset())


def _digest(logged: Logged) -> str:
    return hashlib.sha256(logged.entry).hexdigest()
