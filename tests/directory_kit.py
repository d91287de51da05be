"""A log without a network, and directories with real keys: for what the operator prepares, checks and publishes."""

import base64
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import log_kit
import token_kit
from sottovoce.core import hpke
from sottovoce.core.ohttp import GatewayKey, encode_key_configs
from sottovoce.core.tokens import EPOCH_SECONDS
from sottovoce.edge.directories import directory_of, sign_directory
from sottovoce.edge.keyfolder import EpochKey, PublicKeys
from sottovoce.edge.logclient import LogClient, NotInLogError
from sottovoce.edge.publishing import Mirror, Publisher
from sottovoce.tlog import merkle
from sottovoce.tlog.entries import Directory, Host, Relay, Release
from sottovoce.tlog.note import SigningKey
from sottovoce.tlog.proof import encode_proof

TODAY = 20_000
NOON = TODAY * EPOCH_SECONDS + EPOCH_SECONDS // 2
KEY = SigningKey.generate("directory.example")
HOSTS = tuple(
    Host(id=f"host-{number}", role=role, platform="sev-snp", product="Genoa", hardware_id=f"{number:0128x}")
    for number, role in enumerate(("orchestrator", "orchestrator", "predictor", "guard"), 1)
)
RELAYS = (Relay(operator="One", url="https://one.example/ohttp"),)


@cache
def gateway_key(epoch: int) -> GatewayKey:
    return GatewayKey(key_id=epoch % 256, private_key=hpke.generate_private_key(hpke.X25519))


@cache
def gateway_keys(epoch: int) -> PublicKeys:
    """The gateway's public keys of `epoch`."""
    configs = encode_key_configs([gateway_key(epoch).config()])
    return PublicKeys(party="gateway", epoch=epoch, ohttp_key_configs=base64.b64encode(configs).decode())


def issuer_keys(epoch: int) -> PublicKeys:
    """The issuer's public keys of `epoch`."""
    return PublicKeys(
        party="issuer", epoch=epoch, token_keys=[EpochKey.of(epoch, 2, token_kit.key(epoch).spki)]
    )


def directory(epoch: int = TODAY) -> Directory:
    """A directory with which nothing is wrong."""
    return directory_of(
        epoch,
        gateway=gateway_keys(epoch),
        token_keys=[issuer_keys(epoch), issuer_keys(epoch + 1)],
        issuer="issuer.example",
        relays=RELAYS,
        hosts=HOSTS,
        origin=log_kit.ORIGIN,
        quorum=2,
    )


def note(epoch: int = TODAY) -> bytes:
    return sign_directory(directory(epoch), KEY)


def release(role: str, *, expires: int = NOON + 20 * EPOCH_SECONDS) -> Release:
    return Release(
        role=role, version="1", security_version=1, platform="sev-snp", measurements=("ab" * 48,), vmpl=0,
        artifacts=(), accelerators=(), issued=expires - 21 * EPOCH_SECONDS, expires=expires,
    )  # fmt: skip


def entries() -> list[bytes]:
    """What the log holds beside directories: hosts, and a release of each role."""
    roles = ("orchestrator", "predictor", "guard")
    return [*(host.encode() for host in HOSTS), *(release(role).encode() for role in roles)]


class Log(LogClient):
    """The operator's client of a log in memory, which can be down, and shows what a test has it show."""

    def __init__(self) -> None:
        super().__init__("https://log.example", "secret")
        self.log = log_kit.FilesLog(entries=entries())
        self.now = NOON
        self.asked: list[str] = []

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        self.asked.append(f"{method} {path.partition('?')[0]}")
        if method == "POST":
            assert body is not None
            assert headers["Authorization"] == "Bearer secret"
            if body not in self.log.entries:
                self.log.add(body)
            return b""
        if path.startswith("/proof?hash="):
            return self._proof(bytes.fromhex(path.removeprefix("/proof?hash=")))
        files = self.log.files(now=self.now)
        if path.removeprefix("/") not in files:
            raise NotInLogError("the log has no such file", party="log")
        return files[path.removeprefix("/")]

    def _proof(self, leaf: bytes) -> bytes:
        if leaf not in self.log.leaves:
            raise NotInLogError("the log has no such entry", party="log")
        index = self.log.leaves.index(leaf)
        path = merkle.inclusion_proof(self.log.leaves, index)
        return encode_proof(index=index, path=path, checkpoint=self.log.checkpoint(now=self.now))


def publisher(log: Log, *folders: Path, **more: object) -> Publisher:
    """The operator's publisher, for mirrors in these folders."""
    for folder in folders:
        folder.mkdir(exist_ok=True)
    mirrors = [Mirror(folder=folder) for folder in folders]
    return Publisher(log, mirrors, key=KEY.verifier, policy=log.log.policy(), **more)  # type: ignore[arg-type]
