"""What an attacker has to forge evidence with: the keys of a simulated world, and its public log.

    stage.evidence(target)                        what the genuine machine would show on this connection
    stage.evidence(target, chip=other)            the same, signed by another chip
    replace(stage.evidence(target), host=...)     the same, with another host's papers

Each attack says in `who` which of these keys it assumes. Most assume the operator's: a genuine chip that signs what was really
launched on it, and the right to enter things in the log. The chip's key itself stands for that, as no software gets a real one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sottovoce.attacks.workshop import NO_WORKSHOP, Workshop
from sottovoce.attest.binding import report_data, session_leaf
from sottovoce.attest.evidence import Backend, Batch, Endorsements, Evidence, Logged, Platform
from sottovoce.attest.nvidia.evidence import ARCHITECTURES, DeviceEvidence
from sottovoce.attest.nvidia.session import encode_device
from sottovoce.attest.policy import BACKEND_ROLES
from sottovoce.attest.simulated import SIMULATED_KIND
from sottovoce.core.errors import UsageError
from sottovoce.simulator.accelerator import SimulatedDevice
from sottovoce.simulator.pki import SimulatedChip, SimulatedVendor
from sottovoce.simulator.processor import ReportFields, SimulatedProcessor
from sottovoce.tlog.entries import Host, Release
from sottovoce.tlog.note import Note, SigningKey, sign_note
from sottovoce.tlog.proof import Proof, encode_proof

__all__ = ["ORCHESTRATOR", "Stage", "Target", "shown_of", "unchanged"]

ORCHESTRATOR = "orchestrator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The connection on which the attacker wants to be believed: its exporter (32 bytes), and his key on it (DER)."""

    exporter: bytes
    spki: bytes

    @property
    def leaf(self) -> bytes:
        """What genuine evidence for it is bound to."""
        return session_leaf(self.exporter, self.spki)


def shown_of(gpu: SimulatedDevice, report: bytes) -> bytes:
    """An accelerator's member of the evidence, with this report of it."""
    architecture = ARCHITECTURES[gpu.architecture]
    return encode_device(
        DeviceEvidence(architecture=architecture, nonce=None, report=report, chain=gpu.chain[:-1])
    )


def unchanged(fields: ReportFields) -> ReportFields:
    """The report as the processor would make it."""
    return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One world as its operator sees it.

    Attributes:
        now: unix seconds.
        machine: the host to which the device was sent.
        chips, hosts: by host id.
        releases: by role; those that really run.
        prove: an entry of the log with its proof.
        leaves: the leaf hashes of all the log's entries, 32 bytes each.
        log_key, witnesses: the log's key and its witnesses'.
        gpus, gpu_manifests: two accelerators of the vendor whose root the device pins, and that vendor's manifests (XML).
        earlier: evidence that a genuine CVM of `machine` has shown on a connection that is over.
        concurrent: evidence that it shows on a connection that is open now.
        workshop: what images are built of.
    """

    now: int
    machine: str
    vendor: SimulatedVendor
    chips: Mapping[str, SimulatedChip]
    hosts: Mapping[str, Host]
    releases: Mapping[str, Release]
    prove: Callable[[bytes], Logged]
    leaves: Callable[[], Sequence[bytes]]
    log_key: SigningKey
    witnesses: tuple[SigningKey, ...]
    gpus: tuple[SimulatedDevice, SimulatedDevice]
    gpu_manifests: tuple[bytes, ...]
    earlier: Callable[[], bytes]
    concurrent: Callable[[], bytes]
    workshop: Workshop = NO_WORKSHOP

    @property
    def chip(self) -> SimulatedChip:
        """The chip of the machine to which the device was sent."""
        return self.chips[self.machine]

    @property
    def release(self) -> Release:
        """The orchestrators' release."""
        return self.releases[ORCHESTRATOR]

    def another(self) -> str:
        """Another machine with the same role."""
        others = [
            name for name, host in self.hosts.items() if host.role == ORCHESTRATOR and name != self.machine
        ]
        if not others:
            raise UsageError("the world has one orchestrator only")
        return others[-1]

    def of_role(self, role: str) -> str:
        """A machine with this role."""
        return next(name for name, host in self.hosts.items() if host.role == role)

    def measurement(self, role: str = ORCHESTRATOR) -> bytes:
        """What the role's CVM is measured as, 48 bytes."""
        return bytes.fromhex(self.releases[role].measurements[0])

    def report(
        self,
        data: bytes,
        *,
        chip: SimulatedChip | None = None,
        change: Callable[[ReportFields], ReportFields] = unchanged,
        measurement: bytes | None = None,
    ) -> bytes:
        """A report over `data`, 64 bytes, as the processor signs it for what was launched so."""
        launched = self.measurement() if measurement is None else measurement
        return SimulatedProcessor(chip or self.chip, launched, change=change).report(data)

    def evidence(
        self,
        target: Target,
        *,
        machine: str = "",
        chip: SimulatedChip | None = None,
        change: Callable[[ReportFields], ReportFields] = unchanged,
        measurement: bytes | None = None,
        data: bytes | None = None,
    ) -> Evidence:
        """Evidence that passes every check on `target`, but for what is changed.

        `chip` signs in place of the chip of `machine`, `change` alters fields before they are signed, `data` (64 bytes) stands in
        place of the report data for this connection.
        """
        name = machine or self.machine
        signer = chip or self.chips[name]
        wanted = report_data(target.leaf) if data is None else data
        report = self.report(wanted, chip=signer, change=change, measurement=measurement)
        return Evidence(
            platform=Platform(kind=SIMULATED_KIND, report=report),
            endorsements=Endorsements(vcek=signer.vcek, ask=self.vendor.ask, crl=self.vendor.crl),
            batch=Batch(index=0, size=1, path=()),
            release=self.prove(self.release.encode()),
            host=self.prove(self.hosts[name].encode()),
            backends=tuple(map(self.backend, BACKEND_ROLES)),
        )

    def backend(self, role: str) -> Backend:
        """A genuine appraisal of the back end with this role."""
        return Backend(
            role=role,
            measurement=self.measurement(role),
            release=self.prove(self.releases[role].encode()),
            host=self.of_role(role),
        )

    def signed_at(self, logged: Logged, time: int) -> Logged:
        """`logged` under the checkpoint of the same tree, as log and witnesses signed it at `time` (unix seconds)."""
        proof = Proof.parse(logged.proof)
        text = proof.note.text
        cosignatures = (witness.cosign(text, time=time) for witness in self.witnesses)
        note = Note(text=text, signatures=(*sign_note(text, [self.log_key]).signatures, *cosignatures))
        return Logged(
            entry=logged.entry, proof=encode_proof(index=proof.index, path=proof.path, checkpoint=note)
        )
