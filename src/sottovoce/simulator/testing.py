"""A complete, valid world of evidence in memory: vendor, chip, log with two witnesses, releases of three roles.

Public test support: each part can be replaced, so that an attack is a few lines.

    world = EvidenceWorld()
    evidence = world.evidence(exporter, spki)
    verify_session(evidence.encode(), policy=world.policy(), connection=world.connection(exporter, spki))
"""

import base64
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from sottovoce.attest.binding import peer_leaf, report_data, session_leaf
from sottovoce.attest.evidence import TDX_KIND, Backend, Batch, Endorsements, Evidence, Logged, Platform
from sottovoce.attest.policy import TDX_PRODUCT, SessionPolicy, SnpPolicy
from sottovoce.attest.simulated import SIMULATED_KIND, SIMULATED_PRODUCT
from sottovoce.attest.tdx.appraisal import launch_measurement
from sottovoce.attest.tdx.layout import Quote
from sottovoce.attest.verify import Connection
from sottovoce.core import canonical
from sottovoce.core.limits import LIMITS
from sottovoce.simulator.intel import QuoteFields, SimulatedIntel
from sottovoce.simulator.log_memory import MemoryLog
from sottovoce.simulator.pki import SimulatedVendor
from sottovoce.simulator.processor import ReportFields, SimulatedProcessor
from sottovoce.tee.settings import Settings, parse_settings
from sottovoce.tlog.entries import ROLES, Host, Release

__all__ = ["NOW", "EvidenceWorld", "TdxEvidenceWorld", "intel", "settings_of", "vendor"]

NOW: Final = 1_800_000_000


@functools.lru_cache(maxsize=1)
def vendor() -> SimulatedVendor:
    """One vendor for all tests of a process: its keys take the longest to make."""
    return SimulatedVendor.create(now=NOW, bits=2048)


@functools.lru_cache(maxsize=1)
def intel() -> SimulatedIntel:
    """The same, of the other kind."""
    return SimulatedIntel.create(now=NOW)


class EvidenceWorld:
    """Makes evidence that passes every check, and lets a test spoil one thing."""

    kind = SIMULATED_KIND

    def __init__(self, *, origin: str = "log.example/test") -> None:
        self.vendor = vendor()
        self.log = MemoryLog(origin)
        self.chips = {role: self.vendor.make_chip(now=NOW) for role in ROLES}
        self.measurements = {role: bytes([number + 1]) * 48 for number, role in enumerate(ROLES)}
        self.releases = {role: self.release(role) for role in ROLES}
        self.hosts = {role: self.host(role) for role in ROLES}
        self.logged: dict[bytes, int] = {}
        for role in ROLES:
            self.append(self.releases[role].encode())
            self.append(self.hosts[role].encode())

    def release(self, role: str) -> Release:
        """A release of `role`, not yet logged."""
        return Release(
            role=role,
            version="0.1.0",
            security_version=1,
            platform=self.kind,
            measurements=(self.measurements[role].hex(),),
            vmpl=0,
            artifacts=(),
            accelerators=(),
            issued=NOW - 3600,
            expires=NOW - 3600 + LIMITS.release_life,
        )

    def host(self, role: str) -> Host:
        """A host of `role`, not yet logged."""
        return Host(
            id=f"host-{role}",
            role=role,
            platform=self.kind,
            product=SIMULATED_PRODUCT,
            hardware_id=self.chips[role].chip_id.hex(),
        )

    def append(self, entry: bytes) -> None:
        """Enter `entry` in the log."""
        self.logged[entry] = self.log.append(entry)

    def prove(self, entry: bytes, *, now: int = NOW) -> Logged:
        """`entry` with its proof under the newest checkpoint."""
        return Logged(entry=entry, proof=self.log.proof(self.logged[entry], now=now))

    def backend(self, role: str) -> Backend:
        """The appraisal of a back end."""
        release = self.prove(self.releases[role].encode())
        return Backend(
            role=role, measurement=self.measurements[role], release=release, host=self.hosts[role].id
        )

    def evidence(
        self,
        exporter: bytes,
        spki: bytes,
        *,
        role: str = "orchestrator",
        from_client: bool = False,
        change: Callable[[ReportFields], ReportFields] = lambda fields: fields,
    ) -> Evidence:
        """Valid evidence for a connection; `change` alters fields of the report before it is signed."""
        leaf = (peer_leaf if from_client else session_leaf)(exporter, spki)
        chip = self.chips[role]
        processor = SimulatedProcessor(chip, self.measurements[role], change=change)
        # An orchestrator proves itself to its back ends before it has any.
        shown = ("predictor", "guard") if role == "orchestrator" and not from_client else ()
        return Evidence(
            platform=Platform(kind=SIMULATED_KIND, report=processor.report(report_data(leaf))),
            endorsements=Endorsements(vcek=chip.vcek, ask=self.vendor.ask, crl=self.vendor.crl),
            batch=Batch(index=0, size=1, path=()),
            release=self.prove(self.releases[role].encode()),
            host=self.prove(self.hosts[role].encode()),
            backends=tuple(map(self.backend, shown)),
        )

    def policy(self, **changes: Any) -> SessionPolicy:
        """A strict policy for this world; `changes` are fields of `SessionPolicy` or of its `SnpPolicy`."""
        of_snp = {
            name: changes.pop(name)
            for name in ("roots", "products", "floors", "tightened")
            if name in changes
        }
        policy = SessionPolicy(
            environment="test",
            role="orchestrator",
            snp=replace(SnpPolicy(roots=(self.vendor.root,)), **of_snp),
            allow_simulated=True,
            minimum_security_version=1,
            log=self.log.policy(),
            require_backends=("predictor", "guard"),
        )
        return replace(policy, **changes)

    def connection(self, exporter: bytes, spki: bytes, **changes: Any) -> Connection:
        """What a device knows of the connection."""
        connection = Connection(
            exporter=exporter,
            spki=spki,
            now=NOW,
            candidates=(self.hosts["orchestrator"].id, "host-other"),
            hosts=tuple(self.hosts.values()),
        )
        return replace(connection, **changes)


class TdxEvidenceWorld(EvidenceWorld):
    """The same on TDX: its CVMs show quotes, from a vendor in software."""

    kind = TDX_KIND

    def __init__(self) -> None:
        self.intel = intel()
        self.platforms = {role: self.intel.make_platform(now=NOW) for role in ROLES}
        self.mrtds = {role: bytes([number + 1]) * 48 for number, role in enumerate(ROLES)}
        super().__init__()

    def fields(self, role: str, bound: bytes) -> QuoteFields:
        """What the quote of `role` says; `bound` is its report data, 64 bytes."""
        return QuoteFields(report_data=bound, mr_td=self.mrtds[role])

    def release(self, role: str) -> Release:
        """A release of `role` for this platform, not yet logged."""
        quote = self.platforms[role].quote(self.fields(role, bytes(64)))
        self.measurements[role] = launch_measurement(Quote.parse(quote))
        return super().release(role)

    def host(self, role: str) -> Host:
        """A host of `role`, not yet logged."""
        return replace(super().host(role), product=TDX_PRODUCT, hardware_id=self.platforms[role].ppid.hex())

    def quoted(
        self,
        exporter: bytes,
        spki: bytes,
        *,
        change: Callable[[QuoteFields], QuoteFields] = lambda fields: fields,
        **collateral: Any,
    ) -> Evidence:
        """Valid evidence of the orchestrator; `change` alters fields before they are signed, `collateral` what Intel says."""
        leaf = session_leaf(exporter, spki)
        fields = change(self.fields("orchestrator", report_data(leaf)))
        document = self.intel.collateral(**{"now": NOW, **collateral})
        return replace(
            super().evidence(exporter, spki),
            platform=Platform(kind=TDX_KIND, report=self.platforms["orchestrator"].quote(fields)),
            endorsements=Endorsements(collateral=document),
        )

    def policy(self, **changes: Any) -> SessionPolicy:
        """A strict policy for this world; `changes` are fields of `SessionPolicy`."""
        return super().policy(**{"tdx": self.intel.policy, **changes})


def settings_of(world: EvidenceWorld, role: str, **changes: Any) -> Settings:
    """The settings of a CVM of `world`, with `changes`."""
    root = world.vendor.root
    return parse_settings(
        canonical.encode(
            {
                "role": role,
                "environment": "test",
                "version": "0.1.0",
                "platform": "simulated-snp",
                "vendor_roots": [{"product": root.product, "ark": base64.b64encode(root.ark_der).decode()}],
                "log": {"origin": world.log.origin, "key": str(world.log.key.verifier)},
                "witnesses": [str(witness.verifier) for witness in world.log.witnesses],
                "quorum": 2,
                "cadence_ms": 5,
                **changes,
            }
        )
    )
