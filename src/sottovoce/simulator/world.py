"""Every party on one machine: keys, configurations, releases, the log, and the processes.

    world = World(folder, model=describe(path))
    world.start()           # all parties serve, everything is published
    world.enrol(home)       # this device pins this world
    world.stop()

The folder holds the secrets of all parties at once, which is what makes it a simulation: in the world outside, nobody has
two of them. Started again, it goes on with the same keys, ports and log.
"""

import base64
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import msgspec

import sottovoce
from sottovoce.attest.evidence import Endorsements
from sottovoce.attest.simulated import SIMULATED_KIND, SIMULATED_PRODUCT
from sottovoce.core import canonical, hpke
from sottovoce.core.errors import ConfigError, DecodeError
from sottovoce.core.ohttp import GatewayKey
from sottovoce.core.tokens import TokenKey, epoch_at
from sottovoce.device.environment import Environment
from sottovoce.device.environment import VendorRoot as PinnedRoot
from sottovoce.edge import gateway, issuer, router
from sottovoce.simulator import launcher
from sottovoce.simulator.measure import measure, measure_code
from sottovoce.simulator.models import ModelFile
from sottovoce.simulator.operator import (
    LogClient,
    Published,
    directory_of,
    host_of,
    release_of,
    sign_directory,
)
from sottovoce.simulator.pki import SimulatedChip, SimulatedVendor
from sottovoce.simulator.processes import Parties, bind
from sottovoce.simulator.toml import write_config
from sottovoce.tee.collector import Bundle
from sottovoce.tee.settings import LogSettings, Model, Settings, VendorRoot
from sottovoce.thirdparty import cdn, log, relay, witness
from sottovoce.tlog.entries import Artifact, Directory, Relay, Release
from sottovoce.tlog.note import COSIGNATURE, ED25519, SigningKey

__all__ = ["MACHINES", "PARTIES", "Change", "World"]

MACHINES: Final = {
    "orchestrator-1": "orchestrator",
    "orchestrator-2": "orchestrator",
    "predictor-1": "predictor",
    "guard-1": "guard",
}
"""Simulated machine → the role of its CVM. Two orchestrators, so that a device has two to draw from."""
_THIRD_PARTIES: Final = {
    "log": "log",
    "witness-1": "witness",
    "witness-2": "witness",
    "mirror": "cdn",
    "relay-1": "relay",
    "relay-2": "relay",
}
_EDGE: Final = {"issuer": "issuer", "gateway": "gateway", "router": "router"}
PARTIES: Final = {**_THIRD_PARTIES, **_EDGE, **dict.fromkeys(MACHINES, "cvm")}
"""Party → the service that it runs."""
_NAME: Final = "simulated"
_SERVICE, _ISSUER = "gateway.simulated.invalid", "issuer.simulated.invalid"
_QUOTA: Final = 1000
_VENDOR_BITS: Final = 3072
"""AMD's have 4,096; making those takes seconds."""
_KEMS: Final = {1: hpke.MLKEM768_X25519, 2: hpke.X25519}
_PURPOSE: Final = "inference"
_DAY: Final = 86400
_RELEASE_LEFT: Final = 7 * _DAY
"""A release is entered anew when less of its life is left."""


class _State(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What must stay as it is from start to start."""

    id: str
    created: int
    ports: dict[str, int]
    token_keys: dict[int, str] = {}
    """Epoch → base64 of the SPKI."""
    revocation_list: int = 0
    """When the vendor's list was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a dishonest host starts instead of what was published."""

    code: Path | None = None
    """Folder that holds another `sottovoce` package."""
    settings: Callable[[Settings], Settings] = lambda settings: settings
    model: Path | None = None


@dataclass(slots=True, kw_only=True)
class _Keys:
    vendor: SimulatedVendor
    chips: dict[str, SimulatedChip]
    log: SigningKey
    witnesses: dict[str, SigningKey]
    directory: SigningKey
    gateway: tuple[GatewayKey, ...]
    secret: str


class World:
    """The parties in `folder`; `model` is the predictor's."""

    def __init__(
        self,
        folder: Path,
        *,
        model: ModelFile,
        progress: Callable[[str], object] = lambda _: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.model = model
        self.progress = progress
        self._now = now
        self._parties = Parties(folder / "logs")
        self._published: dict[str, Release] = {}
        self._state, self._keys = self._open()

    # Keys and state.

    def _open(self) -> tuple[_State, _Keys]:
        for name in ("keys", "chips", "configs", "bundles", "mirror", "settings", "releases", "directories"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / "world.json"
        try:
            state = msgspec.json.decode(path.read_bytes(), type=_State)
        except FileNotFoundError:
            now = int(self._now())
            state = _State(id=secrets.token_hex(4), created=now, ports={})
        except (OSError, msgspec.DecodeError):
            raise ConfigError(
                "the world's state is damaged", hint=f"remove {self.folder} to begin anew"
            ) from None
        return state, self._load_keys(state)

    def _save(self) -> None:
        _write(self.folder / "world.json", msgspec.json.encode(self._state))

    def _load_keys(self, state: _State) -> _Keys:
        keys, origin = self.folder / "keys", f"log.{state.id}.simulated.invalid"
        secret = keys / "log.secret"
        if not secret.exists():
            _write(secret, secrets.token_urlsafe(32).encode())
        return _Keys(
            vendor=self._vendor(),
            chips={},
            log=_signing_key(keys / "log.key", origin, ED25519),
            witnesses={
                name: _signing_key(keys / f"{name}.key", f"{name}.{state.id}.simulated.invalid", COSIGNATURE)
                for name in ("witness-1", "witness-2")
            },
            directory=_signing_key(
                keys / "directory.key", f"directory.{state.id}.simulated.invalid", ED25519
            ),
            gateway=tuple(
                _gateway_key(keys / f"ohttp-{number}.key", number, kem) for number, kem in _KEMS.items()
            ),
            secret=secret.read_text(),
        )

    def _vendor(self) -> SimulatedVendor:
        folder = self.folder / "vendor"
        if not folder.exists():
            self.progress("making the simulated vendor's keys")
            vendor = SimulatedVendor.create(now=int(self._now()), bits=_VENDOR_BITS)
            folder.mkdir(mode=0o700)
            vendor.save(folder)
        return SimulatedVendor.load(folder)

    def _chip(self, name: str) -> SimulatedChip:
        path = self.folder / "chips" / name
        if not path.exists():
            self._keys.vendor.make_chip(now=int(self._now())).save(path)
        return SimulatedChip.load(path)

    def _renew_revocation_list(self, now: int) -> None:
        if now - self._state.revocation_list > 7 * _DAY:
            vendor = self._keys.vendor
            fresh = replace(vendor, crl=SimulatedVendor.revocation_list(vendor.ark_key, now=now))
            fresh.save(self.folder / "vendor")
            self._keys.vendor, self._state.revocation_list = fresh, now

    def _renew_token_keys(self, now: int) -> bool:
        """Whether there is a new key: one for each of yesterday, today and tomorrow is kept."""
        today, state = epoch_at(now), self._state
        wanted = (today, today + 1)
        state.token_keys = {epoch: key for epoch, key in state.token_keys.items() if epoch >= today - 1}
        missing = [epoch for epoch in wanted if epoch not in state.token_keys]
        for epoch in missing:
            taken = [TokenKey.parse(base64.b64decode(key)).truncated_id for key in state.token_keys.values()]
            path = self.folder / "keys" / f"token-{epoch}.pem"
            path.unlink(missing_ok=True)
            spki = issuer.generate_token_key(path, taken=taken)
            state.token_keys[epoch] = base64.b64encode(spki).decode()
        return bool(missing)

    # Configurations.

    def url(self, party: str) -> str:
        """Where `party` listens."""
        return f"http://127.0.0.1:{self._state.ports[party]}"

    def port(self, party: str) -> int:
        """Its port on loopback."""
        return self._state.ports[party]

    @property
    def orchestrators(self) -> tuple[str, ...]:
        """The machines that a device draws from."""
        return tuple(name for name, role in MACHINES.items() if role == "orchestrator")

    @property
    def pids(self) -> Mapping[str, int]:
        """Party → process id, while it runs."""
        return self._parties.pids

    @property
    def origin(self) -> str:
        """The log's origin."""
        return self._keys.log.verifier.name

    def _config(self, party: str) -> msgspec.Struct:
        folder, keys = self.folder, self._keys
        match PARTIES[party]:
            case "log":
                witnesses = [
                    log.WitnessAddress(key=str(key.verifier), url=self.url(name))
                    for name, key in keys.witnesses.items()
                ]
                return log.Config(
                    origin=self.origin,
                    key=str(folder / "keys" / "log.key"),
                    folder=str(folder / "log"),
                    secret=str(folder / "keys" / "log.secret"),
                    witnesses=witnesses,
                )
            case "witness":
                return witness.Config(
                    key=str(folder / "keys" / f"{party}.key"),
                    state=str(folder / party),
                    logs=[str(keys.log.verifier)],
                )
            case "cdn":
                return cdn.Config(folder=str(folder / "mirror"))
            case "relay":
                return relay.Config(gateway=self.url("gateway") + "/ohttp", mirror=self.url("mirror"))
            case _:
                return self._edge_config(party)

    def _edge_config(self, party: str) -> msgspec.Struct:
        folder, state = self.folder, self._state
        if party == "issuer":
            key_files = [
                issuer.KeyFile(epoch=epoch, path=str(folder / "keys" / f"token-{epoch}.pem"))
                for epoch in sorted(state.token_keys)
            ]
            return issuer.Config(database=str(folder / "accounts.sqlite"), keys=key_files, quota=_QUOTA)
        if party == "gateway":
            ohttp_keys = [
                gateway.OhttpKeyFile(
                    key_id=number, kem_id=kem, path=str(folder / "keys" / f"ohttp-{number}.key")
                )
                for number, kem in _KEMS.items()
            ]
            return gateway.Config(
                environment=_NAME,
                service=_SERVICE,
                issuer_name=_ISSUER,
                router=self.url("router"),
                spent=str(folder / "spent.sqlite"),
                ohttp_keys=ohttp_keys,
                token_keys=[
                    gateway.TokenKeyEntry(epoch=epoch, key=key)
                    for epoch, key in sorted(state.token_keys.items())
                ],
            )
        hosts = [
            router.HostAddress(id=name, address=self._address(name))
            for name, role in MACHINES.items()
            if role == "orchestrator"
        ]
        return router.Config(hosts=hosts)

    def _address(self, party: str) -> str:
        return f"127.0.0.1:{self._state.ports[party]}"

    def settings(self, role: str) -> Settings:
        """The measured settings of `role`."""
        keys, root = self._keys, self._keys.vendor.root
        model = Model(
            name=self.model.path.stem, sha256=self.model.sha256, bytes=self.model.bytes, purpose=_PURPOSE
        )
        return Settings(
            role=cast("Any", role),  # a value of MACHINES
            environment=_NAME,
            version=sottovoce.__version__,
            platform=SIMULATED_KIND,
            vendor_roots=[VendorRoot(product=root.product, ark=base64.b64encode(root.ark_der).decode())],
            log=LogSettings(origin=self.origin, key=str(keys.log.verifier)),
            witnesses=[str(key.verifier) for key in keys.witnesses.values()],
            quorum=len(keys.witnesses),
            threads=min(os.cpu_count() or 1, 8) if role == "predictor" else 1,
            model=model if role == "predictor" else None,
        )

    def _machine(self, name: str, change: Change) -> launcher.Config:
        role, folder = MACHINES[name], self.folder
        settings = folder / "settings" / f"{name}.json"
        settings.write_bytes(encode_settings(change.settings(self.settings(role))))
        wiring = {"predictor": self._address("predictor-1"), "guard": self._address("guard-1")}
        return launcher.Config(
            settings=str(settings),
            artifacts={self.model.path.stem: str(change.model or self.model.path)}
            if role == "predictor"
            else {},
            chip=str(folder / "chips" / name),
            bundle=str(folder / "bundles" / name),
            wiring=wiring if role == "orchestrator" else {},
            code=str(change.code) if change.code else "",
        )

    # Publishing.

    def _measure(self) -> dict[str, Published]:
        """What each role's CVM is measured as when it is started as published."""
        code, pinned = measure_code(), {self.model.path.stem: bytes.fromhex(self.model.sha256)}
        published = {}
        for role in sorted(set(MACHINES.values())):
            artifacts = pinned if role == "predictor" else {}
            measurement = measure(
                settings=encode_settings(self.settings(role)), artifacts=artifacts, code=code
            )
            entries = [
                Artifact(name=name, purpose=_PURPOSE, sha256=digest.hex(), bytes=self.model.bytes)
                for name, digest in artifacts.items()
            ]
            published[role] = Published(role=role, measurement=measurement.digest, artifacts=tuple(entries))
        return published

    def _releases(self, measured: Mapping[str, Published], now: int) -> dict[str, Release]:
        """The role's release as it was entered, or a new one where it is another or will soon be too old."""
        releases = {}
        for role, published in measured.items():
            path = self.folder / "releases" / f"{role}.json"
            release = None
            with suppress(OSError, DecodeError):
                release = Release.parse(path.read_bytes())
            if (
                release is None
                or release.measurements != (published.measurement.hex(),)
                or release.expires - now < _RELEASE_LEFT
            ):
                release = release_of(published, version=sottovoce.__version__, now=now)
            releases[role] = release
        return releases

    def _directory(self, now: int) -> Directory:
        """The epoch's directory: the one that was published, as there is one an epoch."""
        epoch = epoch_at(now)
        path = self.folder / "directories" / f"{epoch}.json"
        with suppress(OSError, DecodeError):
            return Directory.parse(path.read_bytes())
        keys = {
            number: base64.b64decode(key) for number, key in self._state.token_keys.items() if number >= epoch
        }
        directory = directory_of(
            epoch,
            gateway_keys=self._keys.gateway,
            token_keys=keys,
            issuer=_ISSUER,
            relays=[
                Relay(operator=f"simulated relay {name[-1]}", url=self.url(name) + "/ohttp")
                for name in ("relay-1", "relay-2")
            ],
            hosts=[host_of(name, role, self._chip(name)) for name, role in MACHINES.items()],
            origin=self.origin,
            quorum=len(self._keys.witnesses),
        )
        _write(path, directory.encode())
        return directory

    def _publish(self, now: int) -> None:
        """Enter everything, then prove everything under one tree head, and put it where it is served."""
        client = LogClient(self._state.ports["log"], self._keys.secret)
        releases, directory = self._releases(self._measure(), now), self._directory(now)
        hosts = {name: host_of(name, role, self._chip(name)) for name, role in MACHINES.items()}
        entries: list[bytes] = [entry.encode() for entry in releases.values()]
        entries += [entry.encode() for entry in hosts.values()]
        for entry in (*entries, directory.encode()):
            client.append(entry)
        for role, release in releases.items():
            _write(self.folder / "releases" / f"{role}.json", release.encode())
        for name, host in hosts.items():
            vendor = self._keys.vendor
            papers = Endorsements(vcek=self._chip(name).vcek, ask=vendor.ask, crl=vendor.crl)
            launcher.write_bundle(
                self.folder / "bundles" / name,
                Bundle(
                    endorsements=papers,
                    release=client.prove(releases[host.role].encode()),
                    host=client.prove(host.encode()),
                ),
            )
        mirror = self.folder / "mirror"
        _write(mirror / "directory.proof", client.prove(directory.encode()).proof)
        _write(mirror / "directory.note", sign_directory(directory, self._keys.directory))
        self._published = releases

    # Processes.

    def start(self) -> None:
        """Start every party; all serve and everything is published when this returns.

        Raises:
            ConfigError: a port is taken, or a file of the world is damaged.
            UnavailableError: a party did not start.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        now = int(self._now())
        sockets = {name: bind(self._state.ports.get(name, 0)) for name in PARTIES}
        self._state.ports = {name: sock.getsockname()[1] for name, sock in sockets.items()}
        for name in MACHINES:
            self._chip(name)
            # A machine waits for its papers; those of the last time are not to be taken for them.
            (self.folder / "bundles" / name / "bundle.cbor").unlink(missing_ok=True)
        self._renew_token_keys(now)
        self._renew_revocation_list(now)
        self._save()
        self.progress("log and witnesses")
        # What others wait for comes first: the log, and the model, which takes longest.
        first = ("log", "witness-1", "witness-2")
        for name in first:
            self._launch(name, self._config(name), sockets[name])
        for name in ("predictor-1", "guard-1", *self.orchestrators):
            self._launch(name, self._machine(name, Change()), sockets[name])
        for name in (*_THIRD_PARTIES, *_EDGE):
            if name not in first:
                self._launch(name, self._config(name), sockets[name])
        self._parties.wait_ready(list(first))
        self.progress("publishing what the CVMs run")
        self._publish(now)
        self.progress("the CVMs load")
        self._parties.wait_ready()

    def _launch(self, name: str, config: msgspec.Struct, sock: Any) -> None:
        path = self.folder / "configs" / f"{name}.toml"
        write_config(path, config)
        self._parties.start(name, PARTIES[name], path, sock)

    def stop(self) -> None:
        """Stop every party. Never raises."""
        self._parties.stop()

    def dead(self) -> list[str]:
        """The parties that ended by themselves."""
        return self._parties.dead()

    def stop_one(self, name: str) -> None:
        """Stop one party."""
        self._parties.stop_one(name)

    def restart(self, name: str, change: Change | None = None, *, wait: bool = True) -> None:
        """Start a stopped or running party again, on its port; a CVM with `change`, if one is given.

        An orchestrator serves from the moment when it has its back ends. One that they will refuse is not to be waited for.

        Raises:
            UnavailableError: it did not start.
        """
        if name in self._parties.pids:
            self._parties.stop_one(name)
        config = self._machine(name, change or Change()) if name in MACHINES else self._config(name)
        self._launch(name, config, bind(self._state.ports[name]))
        if wait:
            self._parties.wait_ready([name])

    def renew(self) -> bool:
        """What time asks for: the epoch's keys and directory, fresh proofs, releases. Whether parties were restarted.

        Raises:
            UnavailableError: the log does not answer, or a party did not start again.
        """
        now = int(self._now())
        new_keys = self._renew_token_keys(now)
        self._renew_revocation_list(now)
        self._save()
        before = self._published
        self._publish(now)
        changed = self._published != before or new_keys
        if new_keys:
            self.restart("issuer")
            self.restart("gateway")
        if changed:
            # They show the proofs that they were started with for some minutes more.
            for name in sorted(MACHINES, key=lambda name: MACHINES[name] == "orchestrator"):
                self.restart(name)
        return changed

    # The device.

    def environment(self) -> Environment:
        """What a device of this world pins."""
        keys, root = self._keys, self._keys.vendor.root
        return Environment(
            name=_NAME,
            simulated=True,
            log_origin=self.origin,
            log_key=str(keys.log.verifier),
            witnesses=[str(key.verifier) for key in keys.witnesses.values()],
            quorum=len(keys.witnesses),
            directory_key=str(keys.directory.verifier),
            vendor_roots=[PinnedRoot(product=SIMULATED_PRODUCT, ark=base64.b64encode(root.ark_der).decode())],
            mirrors=[self.url("mirror")],
            relays=[self.url("relay-1"), self.url("relay-2")],
            issuer=self.url("issuer"),
            issuer_name=_ISSUER,
            service=_SERVICE,
            minimum_security_version=1,
            token_age=(0, 0),
        )

    def enrol(self, home: Path) -> None:
        """Make `home` a device of this world, with an account at its issuer.

        Raises:
            DiskError: it cannot be written.
        """
        new = self.environment().install(home)
        if new or not (home / "account.key").exists():
            account = f"device-{secrets.token_hex(8)}"
            _write(home / "account.key", issuer.enrol(self.folder / "accounts.sqlite", account).encode())


def encode_settings(settings: Settings) -> bytes:
    """The document that is measured."""
    return canonical.encode(msgspec.to_builtins(settings))


def _write(path: Path, data: bytes) -> None:
    staged = path.with_name(path.name + ".new")
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    staged.replace(path)


def _signing_key(path: Path, name: str, kind: int) -> SigningKey:
    if not path.exists():
        _write(path, SigningKey.generate(name, kind).secret().encode())
    return SigningKey.parse(path.read_text())


def _gateway_key(path: Path, key_id: int, kem: int) -> GatewayKey:
    if not path.exists():
        _write(path, hpke.generate_private_key(kem).private_bytes())
    return GatewayKey(key_id=key_id, private_key=hpke.PrivateKey.from_bytes(kem, path.read_bytes()))
