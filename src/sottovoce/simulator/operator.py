"""What the operator publishes: releases, hosts and the directory, entered in the log and proved from it."""

import base64
import http.client
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sottovoce.attest.evidence import Logged
from sottovoce.attest.simulated import SIMULATED_KIND, SIMULATED_PRODUCT
from sottovoce.core.errors import UnavailableError
from sottovoce.core.limits import LIMITS
from sottovoce.core.ohttp import GatewayKey, encode_key_configs
from sottovoce.core.tokens import EPOCH_SECONDS, GRACE, PRIVATE_TOKEN_TYPE, TOKEN_TYPE
from sottovoce.simulator.pki import SimulatedChip
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.entries import Artifact, Directory, Host, Relay, Release, Revocations, TokenKey
from sottovoce.tlog.history import History
from sottovoce.tlog.note import SigningKey, sign_note
from sottovoce.tlog.publication import combine, is_release, sign_release

__all__ = ["LogClient", "Published", "directory_of", "host_of", "release_of", "sign_directory"]

_TIMEOUT: Final = 30.0
_OK: Final = 200


class LogClient:
    """The operator's access to the log, and in a simulation that of both publishers."""

    def __init__(self, port: int, secret: str, publishers: Sequence[SigningKey] = ()) -> None:
        self._port = port
        self._secret = secret
        self._publishers = publishers

    def append(self, entry: bytes) -> None:
        """Enter `entry`; one that is there already stays where it is.

        Raises:
            UnavailableError: the log does not take it.
        """
        path, body = "/entries", entry
        if is_release(entry):
            path, body = "/releases", combine(entry, [sign_release(entry, key) for key in self._publishers])
        self._ask("POST", path, body, {"Authorization": f"Bearer {self._secret}"})

    def prove(self, entry: bytes) -> Logged:
        """`entry` with its proof under the newest cosigned checkpoint.

        Raises:
            UnavailableError: the log has no such entry.
        """
        proof = self._ask("GET", f"/proof?hash={merkle.leaf_hash(entry).hex()}", None, {})
        return Logged(entry=entry, proof=proof)

    def history(self, origin: str, size: int, earlier: Iterable[int]) -> History:
        """The consistency file of the tree head of this size, from the log's own tiles.

        Raises:
            UnavailableError, DecodeError: the log's tiles cannot be had.
        """
        leaves: list[bytes] = []
        while len(leaves) < size:
            width = min(tiles.WIDTH, size - len(leaves))
            path = tiles.tile_path(0, len(leaves) // tiles.WIDTH, width)
            leaves += tiles.read_tile(self._ask("GET", f"/{path}", None, {}))
        return History.of(origin, leaves, earlier)

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            response = connection.getresponse()
            answer = response.read(LIMITS.directory)
        except (OSError, http.client.HTTPException):
            raise UnavailableError("the log does not answer", party="log") from None
        finally:
            connection.close()
        if response.status != _OK:
            raise UnavailableError("the log refuses", party="log", hint=f"it answered {response.status}")
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a role's CVM is measured as."""

    role: str
    measurement: bytes
    artifacts: tuple[Artifact, ...] = ()


def release_of(published: Published, *, version: str, now: int) -> Release:
    """A release of the longest life that a release may have."""
    return Release(
        role=published.role,
        version=version,
        security_version=1,
        platform=SIMULATED_KIND,
        measurements=(published.measurement.hex(),),
        vmpl=0,
        artifacts=published.artifacts,
        accelerators=(),
        issued=now,
        expires=now + LIMITS.release_life,
    )


def host_of(name: str, role: str, chip: SimulatedChip) -> Host:
    """The log entry of a simulated machine."""
    return Host(
        id=name,
        role=role,
        platform=SIMULATED_KIND,
        product=SIMULATED_PRODUCT,
        hardware_id=chip.chip_id.hex(),
    )


def directory_of(
    epoch: int,
    *,
    gateway_keys: Iterable[GatewayKey],
    token_keys: Mapping[int, bytes],
    issuer: str,
    relays: Sequence[Relay],
    hosts: Sequence[Host],
    origin: str,
    quorum: int,
    batch_token_keys: Mapping[int, bytes] | None = None,
) -> Directory:
    """The directory of `epoch`: days since 1970, UTC; `token_keys` are SPKIs by epoch, `batch_token_keys` elements."""
    configs = encode_key_configs([key.config() for key in gateway_keys])
    keys = (
        TokenKey(epoch=number, token_type=token_type, key=base64.b64encode(key).decode())
        for token_type, of_type in ((TOKEN_TYPE, token_keys), (PRIVATE_TOKEN_TYPE, batch_token_keys or {}))
        for number, key in sorted(of_type.items())
    )
    return Directory(
        epoch=epoch,
        not_before=epoch * EPOCH_SECONDS - GRACE,
        not_after=(epoch + 1) * EPOCH_SECONDS + GRACE,
        ohttp_key_configs=base64.b64encode(configs).decode(),
        token_keys=tuple(keys),
        issuer=issuer,
        relays=tuple(relays),
        hosts=tuple(hosts),
        revocations=Revocations(),
        log_origin=origin,
        log_quorum=quorum,
    )


def sign_directory(directory: Directory, key: SigningKey) -> bytes:
    """`directory.note`."""
    return sign_note(directory.encode().decode() + "\n", [key]).encode()
