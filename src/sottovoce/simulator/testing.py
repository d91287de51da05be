"""A complete, valid world of evidence in memory: vendor, chip, log with two witnesses, releases of three roles.

Public test support: each part can be replaced, so that an attack is a few lines.

    world = EvidenceWorld()
    evidence = world.evidence(exporter, spki)
    verify_session(evidence.encode(), policy=world.policy(), connection=world.connection(exporter, spki))
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from sottovoce.attest.binding import peer_leaf, report_data, session_leaf
from sottovoce.attest.evidence import Backend, Batch, Endorsements, Evidence, Logged, Platform
from sottovoce.attest.policy import SessionPolicy, SnpPolicy
from sottovoce.attest.simulated import SIMULATED_KIND, SIMULATED_PRODUCT
from sottovoce.attest.verify import Connection
from sottovoce.core.limits import LIMITS
from sottovoce.simulator.log_memory import MemoryLog
from sottovoce.simulator.pki import SimulatedVendor
from sottovoce.simulator.processor import ReportFields, SimulatedProcessor
from sottovoce.tlog.entries import ROLES, Host, Release

__all__ = ["NOW", "EvidenceWorld", "vendor"]

NOW: Final = 1_800_000_000
_PLATFORM: Final = SIMULATED_KIND


@functools.lru_cache(maxsize=1)
def vendor() -> SimulatedVendor:
    """One vendor for all tests of a process: its keys take the longest to make."""
    return SimulatedVendor.create(now=NOW, bits=2048)


class EvidenceWorld:
    """Makes evidence that passes every check, and lets a test spoil one thing."""

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
            platform=_PLATFORM,
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
            platform=_PLATFORM,
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
            platform=Platform(kind=_PLATFORM, report=processor.report(report_data(leaf))),
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
