"""From evidence to a verified session. The steps carry the numbers of protocol section 6.

 1. decode                       7. binding to this connection
 2. certificate chain            8. measurement, role, dates, minimum version, revocation of the release
 3. report signature             9. log proof of the release
 4. patch levels                10. log proof of the host
 5. hardware id and host        11. accelerators
 6. guest policy and platform   12. back ends

Every line that can be evaluated is, so that a refusal shows all that is wrong; one failed line refuses.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sottovoce.attest.binding import batch_root, peer_leaf, report_data, session_leaf
from sottovoce.attest.evidence import Backend, Evidence, Logged
from sottovoce.attest.policy import SIMULATED_PRODUCT, SessionPolicy
from sottovoce.attest.snp import policy as snp_policy
from sottovoce.attest.snp.certificates import Certificate, oid
from sottovoce.attest.snp.layout import Report, Tcb
from sottovoce.attest.snp.signatures import verify_chain, verify_report, verify_revocation_list
from sottovoce.attest.verdict import TITLES, Checklist, Verdict, VerificationRefused
from sottovoce.core.errors import PeerError, UsageError
from sottovoce.tlog.entries import Host, Release, Revocations
from sottovoce.tlog.policy import VerifiedCheckpoint
from sottovoce.tlog.proof import LoggedEntry, verify_proof

__all__ = ["Connection", "VerifiedSession", "certified_tcb", "hardware_id", "verify_session"]

_T = TypeVar("_T")
_MADE_BY_VERIFIER: Final = object()

# AMD 57230, VCEK certificate extensions
_AMD: Final = "1.3.6.1.4.1.3704.1"
_HARDWARE_ID: Final = oid(f"{_AMD}.4")
_BOOTLOADER, _TEE, _SNP = oid(f"{_AMD}.3.1"), oid(f"{_AMD}.3.2"), oid(f"{_AMD}.3.3")
_MICROCODE, _FMC = oid(f"{_AMD}.3.8"), oid(f"{_AMD}.3.9")
_TURIN_ID: Final = 8
_VCEK_KEY: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What evidence must be bound to, and what this verifier knows of the moment.

    Attributes:
        exporter: TLS exporter, 32 bytes.
        spki: the server's public key, DER.
        now: unix seconds; None where there is no trusted clock (a CVM): what needs one is then left to the device.
        candidates: the hosts that this device drew; None between CVMs.
        hosts: the hosts of the directory; None between CVMs, where the host's log proof alone counts.
        revocations: from the directory.
        seen: the last checkpoint that this device accepted.
        from_client: the evidence is a client's (between CVMs).
    """

    exporter: bytes
    spki: bytes
    now: int | None
    candidates: Collection[str] | None = None
    hosts: Collection[Host] | None = None
    revocations: Revocations = field(default_factory=Revocations)
    seen: VerifiedCheckpoint | None = None
    from_client: bool = False


class VerifiedSession:
    """Evidence that passed every check, for one connection. Only `verify_session` makes it."""

    __slots__ = ("evidence", "exporter", "host", "log_indexes", "release", "report", "spki", "verdict")

    def __init__(self, made_by: object, **values: Any) -> None:
        if made_by is not _MADE_BY_VERIFIER:
            raise UsageError("only the verifier makes a verified session")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    evidence: Evidence
    exporter: bytes
    spki: bytes
    verdict: Verdict
    report: Report
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
    checks = Checklist(policy.relaxed)
    verifier = _Verifier(policy, connection, checks)
    decoded = verifier.attempt("decode", lambda: Evidence.decode(evidence), "one CMW record, at most 64 KiB")
    parts = verifier.run(decoded) if decoded else None
    backends = {f"backend-{role}" for role in ("predictor", "guard")}
    needed = {f"backend-{role}" for role in policy.require_backends}
    verdict = checks.verdict(check for check in TITLES if check not in backends - needed)
    if verdict.failed or parts is None or decoded is None:
        raise VerificationRefused(verdict)
    report, release, host, indexes = parts
    return VerifiedSession(
        _MADE_BY_VERIFIER,
        evidence=decoded,
        exporter=connection.exporter,
        spki=connection.spki,
        verdict=verdict,
        report=report,
        release=release,
        host=host,
        log_indexes=indexes,
    )


class _Verifier:
    def __init__(self, policy: SessionPolicy, connection: Connection, checks: Checklist) -> None:
        self._policy = policy
        self._at = connection
        self._checks = checks

    def attempt(self, check: str, step: Callable[[], _T], wanted: str) -> _T | None:
        """Run a step that returns or raises; what it raises becomes the line's value found."""
        try:
            result = step()
        except PeerError as error:
            self._checks.add(check, ok=False, found=str(error), wanted=wanted)
            return None
        self._checks.add(check, ok=True, found="yes", wanted=wanted)
        return result

    def run(self, evidence: Evidence) -> tuple[Report, Release, Host, tuple[int, int]] | None:
        """Steps 2 to 12; None if one of them could not go on, which the checklist then says."""
        chip = self._chain(evidence)
        report = self._report(evidence, chip[1] if chip else None)
        if report is not None and chip is not None:
            self._tcb(report, *chip)
        host = self._host(evidence, report, chip)
        if report is not None:
            snp_policy.check_bits(report, self._checks)
            self._binding(evidence, report)
        release = self._release(evidence, report)
        self._accelerators(evidence, release[0] if release else None)
        for role in self._policy.require_backends:
            self._backend(role, evidence)
        if report is None or host is None or release is None:
            return None
        return report, release[0], host[0], (release[1], host[1])

    # 2. Chain, revocation list, product.
    def _chain(self, evidence: Evidence) -> tuple[str, Certificate] | None:
        add, endorsements, now = self._checks.add, evidence.endorsements, self._at.now
        found: tuple[str, tuple[Certificate, Certificate, Certificate]] | None = None
        reason = "no pinned root signed it"
        for root in self._policy.roots:
            try:
                chain = verify_chain(
                    ark_der=root.ark_der, ask_der=endorsements.ask, vcek_der=endorsements.vcek, now=now
                )
            except PeerError as error:
                reason = str(error)
            else:
                found = root.product, chain
                break
        names = ", ".join(root.product for root in self._policy.roots)
        if found is None:
            add("chain", ok=False, found=reason, wanted=f"a pinned root: {names}")
            return None
        product, (ark, ask, vcek) = found
        add("chain", ok=True, found=f"{product} root", wanted=f"a pinned root: {names}")
        simulated = product == SIMULATED_PRODUCT
        matches = simulated == (evidence.platform.kind == "simulated-snp")
        add("product", ok=matches, found=product, wanted="the platform's own product, by its root")
        self._revocation(evidence, ark, ask, vcek)
        return product, vcek

    def _revocation(self, evidence: Evidence, ark: Certificate, ask: Certificate, vcek: Certificate) -> None:
        crl = self.attempt(
            "revocation-list",
            lambda: verify_revocation_list(evidence.endorsements.crl, ark=ark, now=self._at.now),
            "present, signed by the root, current",
        )
        if crl is None:
            return
        digests = {hashlib.sha256(certificate.der).hexdigest() for certificate in (ask, vcek)}
        revoked = ask.serial in crl.serials or bool(digests & self._at.revocations.certificates)
        self._checks.add(
            "revoked", ok=not revoked, found="revoked" if revoked else "not revoked", wanted="not revoked"
        )

    # 3. Version, signature, signing key.
    def _report(self, evidence: Evidence, vcek: Certificate | None) -> Report | None:
        add, wanted = self._checks.add, "2, 3, 4 or 5, reserved bytes zero"
        try:
            report = Report.parse(evidence.platform.report)
        except PeerError as error:
            add("version", ok=False, found=str(error), wanted=wanted)
            return None
        add("version", ok=True, found=str(report.version), wanted=wanted)
        if vcek is not None:
            certificate = vcek
            self.attempt("signature", lambda: verify_report(report, certificate), "ECDSA P-384, SHA-384")
        kinds = {0: "VCEK", 1: "VLEK", 7: "none"}
        add(
            "signing-key",
            ok=report.signing_key == _VCEK_KEY and not report.mask_chip_key,
            found=kinds.get(report.signing_key, "unknown") + (", masked" if report.mask_chip_key else ""),
            wanted="VCEK, not masked",
        )
        return report

    # 4. Patch levels.
    def _tcb(self, report: Report, product: str, vcek: Certificate) -> None:
        add = self._checks.add
        try:
            certified = certified_tcb(vcek, turin=report.is_turin)
            reported, committed = report.tcb(report.reported_tcb), report.tcb(report.committed_tcb)
        except PeerError as error:
            add("tcb-certificate", ok=False, found=str(error), wanted="equal patch levels")
            return
        add("tcb-certificate", ok=certified == reported, found=str(certified), wanted=str(reported))
        floor = self._policy.tcb_floors.get(product)
        wanted = f"at least {floor}" if floor else f"a floor for {product} in the policy"
        add(
            "tcb-floor",
            ok=floor is not None and certified.at_least(floor),
            found=str(certified),
            wanted=wanted,
        )
        add(
            "tcb-committed",
            ok=committed.at_least(reported),
            found=str(committed),
            wanted=f"at least {reported}",
        )

    # 5 and 10. Hardware id, host list, candidates; the host's log proof.
    def _host(
        self, evidence: Evidence, report: Report | None, chip: tuple[str, Certificate] | None
    ) -> tuple[Host, int] | None:
        logged = self._log("host", evidence.host)
        host = self.attempt_quietly(lambda: Host.parse(evidence.host.entry))
        if report is not None and chip is not None:
            self._hardware(report, *chip, host)
        if host is None:
            return None
        self._candidate(host)
        return (host, logged.index) if logged else None

    def attempt_quietly(self, step: Callable[[], _T]) -> _T | None:
        """A step whose failure other lines will show."""
        try:
            return step()
        except PeerError:
            return None

    def _hardware(self, report: Report, product: str, vcek: Certificate, host: Host | None) -> None:
        add = self._checks.add
        length = _TURIN_ID if report.is_turin else len(report.chip_id)
        chip = report.chip_id[:length]
        masked = not any(chip) or any(report.chip_id[length:])
        certified = self.attempt_quietly(lambda: hardware_id(vcek)) or b""
        short = chip.hex()[:16]
        add(
            "hardware-id",
            ok=not masked and certified == chip,
            found="masked"
            if masked
            else f"{short}… in the report, {certified.hex()[:16]}… in the certificate",
            wanted="equal, and not masked",
        )
        listed = host is not None and (host.hardware_id, host.product, host.role) == (
            chip.hex(),
            product,
            self._policy.role,
        )
        if listed and self._at.hosts is not None:
            listed = host in self._at.hosts
        if listed and host is not None:
            listed = host.id not in self._at.revocations.hosts
        name = host.id if host is not None and listed else f"{short}… is not listed or is revoked"
        add("host", ok=listed, found=name, wanted=f"a listed {product} host for the role {self._policy.role}")

    def _candidate(self, host: Host) -> None:
        drawn = self._at.candidates
        if drawn is None:
            self._checks.skip("candidate", "between CVMs no candidates are drawn")
            return
        self._checks.add(
            "candidate",
            ok=host.id in drawn,
            found=host.id,
            wanted=" or ".join(sorted(drawn)) or "a candidate",
        )

    # 7. Binding.
    def _binding(self, evidence: Evidence, report: Report) -> None:
        leaf_of = peer_leaf if self._at.from_client else session_leaf
        leaf = leaf_of(self._at.exporter, self._at.spki)
        batch = evidence.batch

        def expected() -> bytes:
            return report_data(batch_root(leaf, index=batch.index, size=batch.size, path=batch.path))

        wanted = self.attempt_quietly(expected)
        self._checks.add(
            "binding",
            ok=wanted is not None and report.report_data == wanted,
            found=f"{report.report_data.hex()[:16]}…",
            wanted=f"{wanted.hex()[:16]}…, from this connection's exporter"
            if wanted
            else "a batch proof that fits",
        )

    # 8 and 9. Release and its log proof.
    def _release(self, evidence: Evidence, report: Report | None) -> tuple[Release, int] | None:
        logged = self._log("release", evidence.release)
        try:
            release = Release.parse(evidence.release.entry)
        except PeerError as error:
            self._checks.add("measurement", ok=False, found=str(error), wanted="a release")
            return None
        if report is not None:
            self._measurement(report, release)
        self._release_rules(evidence, release)
        return (release, logged.index) if logged else None

    def _measurement(self, report: Report, release: Release) -> None:
        add, measured = self._checks.add, report.measurement.hex()
        add(
            "measurement",
            ok=measured in release.measurements,
            found=f"{measured[:16]}…",
            wanted=" or ".join(f"{value[:16]}…" for value in release.measurements),
        )
        add("vmpl", ok=report.vmpl == release.vmpl, found=str(report.vmpl), wanted=str(release.vmpl))

    def _release_rules(self, evidence: Evidence, release: Release) -> None:
        add, minimum = self._checks.add, self._policy.minimum_security_version
        add("role", ok=release.role == self._policy.role, found=release.role, wanted=self._policy.role)
        kind = evidence.platform.kind
        add("platform", ok=release.platform == kind, found=release.platform, wanted=kind)
        found = str(release.security_version)
        add(
            "security-version",
            ok=release.security_version >= minimum,
            found=found,
            wanted=f"at least {minimum}",
        )
        revoked = _digest(evidence.release) in self._at.revocations.releases
        add(
            "release-revoked",
            ok=not revoked,
            found="revoked" if revoked else "not revoked",
            wanted="not revoked",
        )
        now = self._at.now
        if now is None:
            self._checks.skip("release-dates", "left to the device, which has a clock")
            return
        valid = release.issued <= now < release.expires
        days = (release.expires - now) / 86400
        add("release-dates", ok=valid, found=f"{days:.1f} days left", wanted="issued, and not expired")

    def _log(self, what: str, logged: Logged) -> LoggedEntry | None:
        """Steps 9 and 10: everything but the age, then the age, then what this device saw before."""
        add, log, now = self._checks.add, self._policy.log, self._at.now
        wanted = f"{log.quorum} of {len(log.witnesses)} pinned witnesses, {log.origin}"
        try:
            entry = verify_proof(logged.proof, logged.entry, log, now=None)
        except PeerError as error:
            add(f"{what}-log", ok=False, found=str(error), wanted=wanted)
            return None
        add(f"{what}-log", ok=True, found=f"entry {entry.index} of {entry.checkpoint.size}", wanted=wanted)
        if now is None:
            self._checks.skip(f"{what}-log-age", "left to the device, which has a clock")
        else:
            fresh = self.attempt_quietly(lambda: verify_proof(logged.proof, logged.entry, log, now=now))
            age = f"{(now - entry.checkpoint.time) / 3600:.1f} hours old"
            add(
                f"{what}-log-age",
                ok=fresh is not None,
                found=age,
                wanted=f"at most {log.max_age // 3600} hours",
            )
        if what == "release":
            self._seen(entry.checkpoint)
        return entry

    def _seen(self, checkpoint: VerifiedCheckpoint) -> None:
        seen = self._at.seen
        if seen is None:
            self._checks.skip("release-log-seen", "this verifier has seen no checkpoint before")
            return
        same = (seen.size, seen.root) == (checkpoint.size, checkpoint.root)
        self._checks.add(
            "release-log-seen",
            ok=same,
            found=f"size {checkpoint.size}",
            wanted=f"the tree head seen at size {seen.size}",
        )

    # 11. Accelerators.
    def _accelerators(self, evidence: Evidence, release: Release | None) -> None:
        declared = release.accelerators if release else ()
        if not declared and not evidence.accelerators:
            self._checks.add(
                "accelerators", ok=True, found="none declared, none shown", wanted="those declared"
            )
            return
        # UNSPECIFIED: protocol 6.11 says how to verify one; this version knows none, so it refuses them all.
        found = f"{len(evidence.accelerators)} shown, {len(declared)} declared; this version can verify none"
        self._checks.add("accelerators", ok=False, found=found, wanted="those declared")

    # 12. Back ends.
    def _backend(self, role: str, evidence: Evidence) -> None:
        shown = [backend for backend in evidence.backends if backend.role == role]
        wanted = f"one appraisal of a logged {role}"
        if len(shown) != 1:
            found = f"the orchestrator shows {len(shown)} appraisals: it could not verify a {role}"
            self._checks.add(f"backend-{role}", ok=False, found=found, wanted=wanted)
            return
        reason = self._backend_fault(role, shown[0])
        found = reason or f"on {shown[0].host}, {shown[0].measurement.hex()[:16]}…"
        self._checks.add(f"backend-{role}", ok=not reason, found=found, wanted=wanted)

    def _backend_fault(self, role: str, backend: Backend) -> str:
        now, revoked = self._at.now, self._at.revocations
        try:
            verify_proof(backend.release.proof, backend.release.entry, self._policy.log, now=now)
            release = Release.parse(backend.release.entry)
        except PeerError as error:
            return str(error)
        faults = {
            "its release has another role": release.role != role,
            "its measurement is not the release's": backend.measurement.hex() not in release.measurements,
            "its release is too old": release.security_version < self._policy.minimum_security_version,
            "its release is not valid now": now is not None and not release.issued <= now < release.expires,
            "its release is revoked": _digest(backend.release) in revoked.releases,
            "its host is revoked": backend.host in revoked.hosts,
            "its host is not in the directory": self._at.hosts is not None
            and (backend.host, role) not in {(host.id, host.role) for host in self._at.hosts},
        }
        return "; ".join(text for text, is_so in faults.items() if is_so)


def _digest(logged: Logged) -> str:
    return hashlib.sha256(logged.entry).hexdigest()


def hardware_id(vcek: Certificate) -> bytes:
    """The hwID extension: 64 bytes, 8 on Turin (AMD 57230)."""
    return vcek.octets(_HARDWARE_ID)


def certified_tcb(vcek: Certificate, *, turin: bool) -> Tcb:
    """The patch levels in the certificate's extensions (AMD 57230)."""
    return Tcb(
        bootloader=vcek.integer(_BOOTLOADER),
        tee=vcek.integer(_TEE),
        snp=vcek.integer(_SNP),
        microcode=vcek.integer(_MICROCODE),
        fmc=vcek.integer(_FMC) if turin else None,
    )
