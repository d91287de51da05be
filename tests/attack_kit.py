"""The stage of the attack lab in memory: the same forgeries, over real TLS, against the real verifier."""

from dataclasses import dataclass, field, replace

from sottovoce.attacks.attack import Trial
from sottovoce.attacks.rogue import RogueServer
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence
from sottovoce.attest.nvidia.policy import NvidiaPolicy
from sottovoce.attest.policy import SessionPolicy
from sottovoce.attest.verdict import VerificationRefused
from sottovoce.attest.verify import VerifiedSession, verify_session
from sottovoce.core.errors import SottovoceError
from sottovoce.core.tls import AttestationWanted, ClientHandshake, Data, EvidenceOffer
from sottovoce.simulator.accelerator import SimulatedGpuVendor
from sottovoce.simulator.testing import NOW, EvidenceWorld

MACHINE, THIRD = "host-orchestrator", "host-third"
REQUEST = b"the eagle lands at noon"
GPU_VENDOR = SimulatedGpuVendor.create(now=NOW)
MANIFESTS = tuple(GPU_VENDOR.manifest(GPU_VENDOR.make_device(now=NOW), part) for part in ("driver", "vbios"))


def elsewhere(world: EvidenceWorld) -> bytes:
    """Evidence that is valid on another connection."""
    return world.evidence(b"x" * 32, b"another key").encode()


@dataclass
class MemoryStage:
    """A world in memory with a second orchestrator that the device has not drawn."""

    world: EvidenceWorld = field(default_factory=EvidenceWorld)

    def __post_init__(self) -> None:
        world = self.world
        chips = {host.id: world.chips[role] for role, host in world.hosts.items()}
        chips[THIRD] = world.vendor.make_chip(now=NOW)
        third = replace(world.hosts["orchestrator"], id=THIRD, hardware_id=chips[THIRD].chip_id.hex())
        world.append(third.encode())
        self.hosts = (*world.hosts.values(), third)
        self.stage = Stage(
            now=NOW,
            machine=MACHINE,
            vendor=world.vendor,
            chips=chips,
            hosts={host.id: host for host in self.hosts},
            releases=world.releases,
            prove=world.prove,
            leaves=lambda: world.log.leaves,
            log_key=world.log.key,
            witnesses=world.log.witnesses,
            gpus=(GPU_VENDOR.make_device(now=NOW), GPU_VENDOR.make_device(now=NOW)),
            gpu_manifests=MANIFESTS,
            earlier=lambda: elsewhere(world),
            concurrent=lambda: elsewhere(world),
        )

    def policy(self) -> SessionPolicy:
        return self.world.policy(nvidia=NvidiaPolicy(roots=GPU_VENDOR.roots), manifests=MANIFESTS)

    def verify(self, offer: EvidenceOffer) -> VerifiedSession:
        """As the device does it."""
        seen = self.world.log.policy().verify_checkpoint(self.world.log.checkpoint(now=NOW), now=NOW)
        connection = self.world.connection(offer.exporter, offer.spki, hosts=self.hosts, seen=seen)
        return verify_session(offer.evidence, policy=self.policy(), connection=connection)

    def attempt(self, trial: Trial) -> "Attempt":
        """A device meets the attacker, and sends its request if it believes him."""
        server = trial.server(self.stage)
        client = ClientHandshake()
        (wanted,) = server.receive(client.first_flight())
        assert isinstance(wanted, AttestationWanted)
        forged = trial.forge(self.stage, Target(exporter=wanted.exporter, spki=wanted.spki))
        server.attest(forged.encode() if isinstance(forged, Evidence) else forged)
        try:
            offer = client.receive(server.outgoing())
            assert offer is not None
            verified = self.verify(offer)
        except VerificationRefused as refused:
            return Attempt(stopped_by={check.id for check in refused.verdict.causes}, server=server)
        except SottovoceError as error:
            return Attempt(stopped_by={error.code}, server=server)
        connection = offer.accept(verified)
        connection.send(REQUEST)
        events = server.receive(connection.outgoing())
        read = b"".join(event.data for event in events if isinstance(event, Data))
        return Attempt(stopped_by=set(), server=server, read=read)


@dataclass
class Attempt:
    """What stopped it, if anything did, and what the attacker read."""

    stopped_by: set[str]
    server: RogueServer
    read: bytes = b""
