"""What each party of a world is started with: its configuration, and for a machine its measured settings."""

import base64
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import msgspec

import sottovoce
from sottovoce.attest.policy import SIMULATED_NVIDIA_PRODUCTS
from sottovoce.attest.simulated import SIMULATED_KIND, SIMULATED_PRODUCT
from sottovoce.core import canonical
from sottovoce.core.errors import UsageError
from sottovoce.device import environment as device_environment
from sottovoce.edge import gateway, issuer, router
from sottovoce.edge.directories import directory_of
from sottovoce.simulator import launcher
from sottovoce.simulator.models import ModelFile
from sottovoce.simulator.state import WorldState
from sottovoce.tee.features.prompts import prompts_digest
from sottovoce.tee.settings import LogSettings, Model, Settings, VendorRoot
from sottovoce.thirdparty import cdn, log, relay, witness
from sottovoce.tlog.entries import Directory, Host, Relay

__all__ = [
    "ENVIRONMENT",
    "ISSUER",
    "MACHINES",
    "PARTIES",
    "PURPOSE",
    "SERVICE",
    "Change",
    "Configs",
    "encode_settings",
]

MACHINES: Final = {
    "orchestrator-1": "orchestrator",
    "orchestrator-2": "orchestrator",
    "predictor-1": "predictor",
    "guard-1": "guard",
}
"""Simulated machine → the role of its CVM. Two orchestrators, so that a device has two to draw from."""
PARTIES: Final = {
    "log": "log",
    "witness-1": "witness",
    "witness-2": "witness",
    "mirror": "cdn",
    "relay-1": "relay",
    "relay-2": "relay",
    "issuer": "issuer",
    "gateway": "gateway",
    "router": "router",
    **dict.fromkeys(MACHINES, "cvm"),
}
"""Party → the service that it runs."""
ENVIRONMENT: Final = "simulated"
SERVICE, ISSUER = "gateway.simulated.invalid", "issuer.simulated.invalid"
PURPOSE: Final = "inference"
_RELAYS: Final = tuple(name for name, service in PARTIES.items() if service == "relay")
_QUOTA: Final = 4000
"""Tokens an account and day: a device fetches 128 at a time, and the attack lab does so a dozen times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a dishonest operator starts instead of what was published."""

    code: Path | None = None
    """Folder that holds another `sottovoce` package."""
    settings: Callable[[Settings], Settings] = lambda settings: settings
    model: Path | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Where its router finds hosts: id → ADDRESS:PORT."""


class Configs:
    """The configurations of the world in `folder`; of the relays in `flights` its directories say that they do not stream."""

    def __init__(
        self,
        folder: Path,
        state: WorldState,
        model: ModelFile,
        *,
        report_delay: float = 0.0,
        directory_seconds: float = 300.0,
        flights: Collection[str] = (),
    ) -> None:
        """Configure a world.

        Raises:
            UsageError: one of `flights` is no relay.
        """
        if not set(flights) <= set(_RELAYS):
            raise UsageError("only a relay carries flights", hint=f"one of {', '.join(_RELAYS)}")
        self._folder = folder
        self._state = state
        self._model = model
        self._report_delay = report_delay
        self._directory_seconds = directory_seconds
        self._flights = frozenset(flights)
        self.images: dict[str, Path] = {}
        """Machine → the folder of the image that it boots, in an emulator, in place of a process."""
        self.programs = ""
        """Where the emulator's programs are, if not on PATH."""
        self.traffic = ""
        """The folder in which emulated machines' connections are written down, if they are."""

    @property
    def machines(self) -> dict[str, str]:
        """The machines that are used: of a role with an image only those that boot one."""
        booted = {MACHINES[name] for name in self.images}
        return {name: role for name, role in MACHINES.items() if role not in booted or name in self.images}

    def address(self, party: str) -> str:
        """Where `party` listens, as ADDRESS:PORT."""
        return f"127.0.0.1:{self._state.ports[party]}"

    def url(self, party: str) -> str:
        """Where `party` listens, as a URL."""
        return f"http://{self.address(party)}"

    def service(self, party: str, change: Change) -> msgspec.Struct:
        """The configuration of a party that is no machine."""
        make: Callable[[str], msgspec.Struct] = getattr(self, f"_{PARTIES[party]}")
        config = make(party)
        if change.hosts and isinstance(config, router.Config):
            hosts = [router.HostAddress(id=name, address=address) for name, address in change.hosts.items()]
            config = msgspec.structs.replace(config, hosts=hosts)
        return config

    def machine(self, name: str, change: Change) -> launcher.Config:
        """The configuration of a machine; its settings document is written."""
        role, folder = MACHINES[name], self._folder
        settings = folder / "settings" / f"{name}.json"
        settings.write_bytes(encode_settings(change.settings(self.settings(role))))
        model = {self._model.name: str(change.model or self._model.path)}
        wiring = {"predictor": self.address("predictor-1"), "guard": self.address("guard-1")}
        return launcher.Config(
            settings=str(settings),
            artifacts=model if role == "predictor" else {},
            chip=str(folder / "chips" / name),
            bundle=str(folder / "bundles" / name),
            wiring=wiring if role == "orchestrator" else {},
            code=str(change.code) if change.code else "",
            report_delay=self._report_delay,
            image=str(self.images.get(name, "")),
            programs=self.programs,
            traffic=str(Path(self.traffic) / name) if self.traffic and name in self.images else "",
        )

    def settings(self, role: str, *, processors: int | None = None) -> Settings:
        """The measured settings of `role`, on this machine or on one with so many processors."""
        state, root, model = self._state, self._state.vendor.root, self._model
        return Settings(
            role=cast("Any", role),  # a value of MACHINES
            environment=ENVIRONMENT,
            version=sottovoce.__version__,
            platform=SIMULATED_KIND,
            vendor_roots=[VendorRoot(product=root.product, ark=base64.b64encode(root.ark_der).decode())],
            log=LogSettings(origin=state.log.verifier.name, key=str(state.log.verifier)),
            witnesses=[str(key.verifier) for key in state.witnesses.values()],
            quorum=len(state.witnesses),
            threads=min(processors or os.cpu_count() or 1, 8) if role == "predictor" else 1,
            model=Model(name=model.name, digest=model.digest(PURPOSE), bytes=model.bytes, purpose=PURPOSE)
            if role == "predictor"
            else None,
            prompts=prompts_digest() if role == "predictor" else None,
        )

    def directory(self, epoch: int, hosts: Sequence[Host]) -> Directory:
        """The directory of `epoch`; keys of its parties that are missing are made."""
        state = self._state
        return directory_of(
            epoch,
            gateway=state.ohttp_keys(epoch),
            token_keys=[state.token_keys(epoch), state.token_keys(epoch + 1)],
            issuer=ISSUER,
            relays=[
                Relay(
                    operator=f"simulated relay {name[-1]}",
                    url=self.url(name) + "/ohttp",
                    streams=name not in self._flights,
                )
                for name in _RELAYS
            ],
            hosts=hosts,
            origin=state.log.verifier.name,
            quorum=len(state.witnesses),
        )

    def environment(self) -> device_environment.Environment:
        """What a device of this world pins."""
        state, gpus = self._state, self._state.gpu_vendor.roots
        certificates = (state.vendor.root.ark_der, gpus.devices, gpus.manifests)
        roots = zip((SIMULATED_PRODUCT, *SIMULATED_NVIDIA_PRODUCTS), certificates, strict=True)
        return device_environment.Environment(
            name=ENVIRONMENT,
            simulated=True,
            log_origin=state.log.verifier.name,
            log_key=str(state.log.verifier),
            witnesses=[str(key.verifier) for key in state.witnesses.values()],
            quorum=len(state.witnesses),
            directory_key=str(state.directory.verifier),
            vendor_roots=[
                device_environment.VendorRoot(product=name, ark=base64.b64encode(root).decode())
                for name, root in roots
            ],
            manifests=[base64.b64encode(one).decode() for one in state.gpu_manifests],
            mirrors=[self.url("mirror")],
            relays=[self.url("relay-1"), self.url("relay-2")],
            issuer=self.url("issuer"),
            issuer_name=ISSUER,
            service=SERVICE,
            minimum_security_version=1,
            token_age=(0, 0),
        )

    def _log(self, _: str) -> msgspec.Struct:
        state = self._state
        witnesses = [
            log.WitnessAddress(key=str(key.verifier), url=self.url(name))
            for name, key in state.witnesses.items()
        ]
        return log.Config(
            origin=state.log.verifier.name,
            key=str(state.path("log.key")),
            folder=str(self._folder / "log"),
            secret=str(state.path("log.secret")),
            witnesses=witnesses,
            quorum=len(witnesses),
            publishers=[str(key.verifier) for key in state.publishers],
        )

    def _witness(self, party: str) -> msgspec.Struct:
        return witness.Config(
            key=str(self._state.path(f"{party}.key")),
            state=str(self._folder / party),
            logs=[str(self._state.log.verifier)],
        )

    def _cdn(self, _: str) -> msgspec.Struct:
        return cdn.Config(folder=str(self._folder / "mirror"))

    def _relay(self, _: str) -> msgspec.Struct:
        return relay.Config(
            gateway=self.url("gateway") + "/ohttp",
            mirror=self.url("mirror"),
            directory_seconds=self._directory_seconds,
        )

    def _issuer(self, _: str) -> msgspec.Struct:
        database = str(self._folder / "accounts.sqlite")
        return issuer.Config(database=database, folder=str(self._state.issuer_keys), quota=_QUOTA)

    def _gateway(self, _: str) -> msgspec.Struct:
        return gateway.Config(
            environment=ENVIRONMENT,
            service=SERVICE,
            issuer_name=ISSUER,
            router=self.url("router"),
            spent=str(self._folder / "spent.sqlite"),
            keys=str(self._state.gateway_keys),
        )

    def _router(self, _: str) -> msgspec.Struct:
        hosts = [
            router.HostAddress(id=name, address=self.address(name))
            for name, role in self.machines.items()
            if role == "orchestrator"
        ]
        return router.Config(hosts=hosts)


def encode_settings(settings: Settings) -> bytes:
    """The document that is measured."""
    return canonical.encode(msgspec.to_builtins(settings))
