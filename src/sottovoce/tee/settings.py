"""What a CVM is started with (protocol section 8).

Settings are measured: one canonical-JSON document, an allow-list of names, each with a grammar. Wiring is not
measured: it only says where the host has put the back ends, and whoever answers there has to prove what it is.
Nothing of either reaches an environment variable or a file system path.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from sottovoce.attest.policy import Root, SessionPolicy, platform_policies
from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError, DecodeError, UsageError
from sottovoce.tlog.note import VerifierKey
from sottovoce.tlog.policy import LogPolicy

__all__ = [
    "VSOCK",
    "ArtifactMismatchError",
    "EngineSettings",
    "LogSettings",
    "Model",
    "Settings",
    "VendorRoot",
    "parse_settings",
    "parse_wiring",
]

VSOCK: Final = "vsock"
"""In place of an IP address: a port of the machine's own host, for a CVM without a network."""
_LIMIT: Final = 64 * 1024
_Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]
_Text = Annotated[str, msgspec.Meta(pattern=r"\A[\x21-\x7e]{1,500}\Z")]
_Base64 = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9+/]+={0,2}\Z", max_length=16 * 1024)]
_Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
_PEERS: Final[Mapping[str, tuple[str, ...]]] = {
    "orchestrator": ("predictor", "guard"),
    "predictor": ("orchestrator",),
    "guard": ("orchestrator",),
}
"""Which roles each role talks to."""


class ArtifactMismatchError(ConfigError):
    """What a CVM is started with is not what its measured settings name: in name, purpose, structure, size or contents."""

    code = "config.artifact"


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frozen, and unknown names are errors."""


class VendorRoot(_Strict, frozen=True, kw_only=True):
    """A processor vendor's root certificate for one product line; `ark` is base64 of the DER."""

    product: _Name
    ark: _Base64


class LogSettings(_Strict, frozen=True, kw_only=True):
    """The pinned log: its origin, and its key as C2SP vkey."""

    origin: _Text
    key: _Text


class Model(_Strict, frozen=True, kw_only=True):
    """The measured artifact of this role; its name is that of `--artifact`.

    `digest` is over its name, purpose, structure and contents (docs/artifacts.md).
    """

    name: _Name
    digest: _Sha256
    bytes: _Size
    purpose: _Name


class EngineSettings(_Strict, frozen=True, kw_only=True):
    """A predictor's engine that is a server in the same CVM (docs/engines.md).

    `model` is what the server calls its model. `port` is its port on loopback; without one it listens on a fixed Unix socket.
    """

    kind: Literal["vllm", "sglang", "llama-server"]
    model: _Name
    port: Annotated[int, msgspec.Meta(ge=1024, le=65535)] | None = None


class Settings(_Strict, frozen=True, kw_only=True):
    """The measured settings of one CVM."""

    role: Literal["orchestrator", "predictor", "guard"]
    environment: _Name
    version: _Name
    platform: Literal["simulated-snp", "sev-snp"]
    vendor_roots: Annotated[list[VendorRoot], msgspec.Meta(min_length=1, max_length=16)]
    log: LogSettings
    witnesses: Annotated[list[_Text], msgspec.Meta(min_length=1, max_length=32)]
    quorum: Annotated[int, msgspec.Meta(ge=1, le=32)]
    minimum_security_version: Annotated[int, msgspec.Meta(ge=0, le=1 << 31)] = 1
    relaxed: Annotated[list[_Name], msgspec.Meta(max_length=32)] = []
    cadence_ms: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 40
    """Milliseconds between two frames of a streamed answer."""
    sessions: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 128
    """Most session processes at a time; more connections wait."""
    slots: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    """Most session processes that compute at a time; more wait for their turn."""
    spares: Annotated[int, msgspec.Meta(ge=0, le=64)] = 2
    """Session processes made ahead; an orchestrator always keeps one at least."""
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    model: Model | None = None
    """The embedded engine's weights. A server's are the image's."""
    engine: EngineSettings | None = None
    """The server that answers in place of the embedded engine."""
    prompts: _Sha256 | None = None
    """Digest of the fixed prompts as an artifact; a predictor needs it."""

    def log_policy(self) -> LogPolicy:
        """The pinned log and witnesses.

        Raises:
            DecodeError: a key that does not parse.
        """
        return LogPolicy(
            origin=self.log.origin,
            log_key=VerifierKey.parse(self.log.key),
            witnesses=tuple(VerifierKey.parse(key) for key in self.witnesses),
            quorum=self.quorum,
        )

    def peer_policy(self, role: str) -> SessionPolicy:
        """What this CVM demands of a peer that says it is `role`.

        Raises:
            UsageError: this CVM has no such peer.
        """
        if role not in _PEERS[self.role]:
            raise UsageError("this role has no such peer")
        roots = (Root(product=root.product, ark_der=base64.b64decode(root.ark)) for root in self.vendor_roots)
        snp, tdx, nvidia = platform_policies(roots)
        return SessionPolicy(
            environment=self.environment,
            role=role,
            snp=snp,
            tdx=tdx,
            nvidia=nvidia,
            allow_simulated=self.platform == "simulated-snp",
            minimum_security_version=self.minimum_security_version,
            relaxed=frozenset(self.relaxed),
            log=self.log_policy(),
            # A back end has none, and an orchestrator proves itself to a back end before it has any.
            require_backends=(),
        )

    @property
    def peers(self) -> tuple[str, ...]:
        """The roles that this one talks to."""
        return _PEERS[self.role]


def parse_settings(data: bytes) -> Settings:
    """The settings in a canonical-JSON document.

    Raises:
        ConfigError: not canonical, an unknown name, a value outside its grammar, a policy that cannot be.
    """
    try:
        settings = msgspec.convert(canonical.decode(data, limit=_LIMIT), Settings)
        for role in settings.peers:
            settings.peer_policy(role)
    except DecodeError:
        raise ConfigError("the settings are not a canonical document, or hold a key that is none") from None
    except msgspec.ValidationError:
        raise ConfigError("the settings hold an unknown name or a value outside its grammar") from None
    except (UsageError, binascii.Error) as error:
        raise ConfigError(f"the settings hold a policy that cannot be: {error}") from None
    if settings.engine is not None and (settings.role != "predictor" or settings.model is not None):
        raise ConfigError("an engine's server is for a predictor without a model of its own")
    return settings


_ADDRESS: Final = re.compile(rf"(?:\[([0-9a-f:]{{2,45}})\]|([0-9.]{{7,15}}|{VSOCK})):([1-9][0-9]{{0,4}})")
_MAX_PORT: Final = 65535


def parse_wiring(data: bytes, settings: Settings) -> dict[str, tuple[str, int]]:
    """Back end's role → (IP address or `VSOCK`, port), from a canonical-JSON object of `"ADDRESS:PORT"` values.

    Only addresses are taken, no names: a CVM asks no resolver. "vsock:PORT" is a port of the host's own.

    Raises:
        ConfigError: not canonical, an address outside the grammar, or not exactly this role's back ends.
    """
    wanted = set(settings.peers) if settings.role == "orchestrator" else set()
    try:
        wiring: Any = canonical.decode(data, limit=_LIMIT)
    except DecodeError:
        raise ConfigError("the wiring is not a canonical document") from None
    if not isinstance(wiring, dict) or set(wiring) != wanted:
        raise ConfigError("the wiring does not name exactly this role's back ends")
    return {role: _address(value) for role, value in wiring.items()}


def _address(value: object) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is not None and int(match[3]) <= _MAX_PORT:
            place = match[1] or match[2]
            return place if place == VSOCK else str(ipaddress.ip_address(place)), int(match[3])
    except ValueError:
        pass
    raise ConfigError("the wiring holds an address outside its grammar")
