"""What a device pins: the keys and roots that it trusts, and where to find the third parties.

One file, shipped with the client build in production, written by the simulator for a test world. Everything
that the operator could change at will (relays, hosts, keys of the day) is in the logged directory instead.
"""

import base64
import binascii
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from sottovoce.attest.policy import Root, SessionPolicy, platform_policies
from sottovoce.core.errors import ConfigError, DecodeError, UsageError
from sottovoce.device.files import private_directory, write_private
from sottovoce.tlog.note import VerifierKey
from sottovoce.tlog.policy import LogPolicy

__all__ = ["FILE", "Environment", "VendorRoot"]

FILE: Final = "environment.json"
_LIMIT: Final = 1024 * 1024
_OF_ONE_ENVIRONMENT: Final = (
    "wallet.sqlite",
    "wallet.sqlite-wal",
    "wallet.sqlite-shm",
    "directory.json",
    "last-directory.json",
    "fork.json",
    "account.key",
)
_BACKENDS: Final = ("predictor", "guard")
"""The roles whose appraisals the orchestrator must show (protocol 6.12)."""


class VendorRoot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A vendor's root certificate for one product line, as `attest.policy` names it."""

    product: str
    ark: str
    """base64 of the DER certificate."""


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The pins of one environment; a test environment's are never those of production."""

    name: str
    simulated: bool
    log_origin: str
    log_key: str
    witnesses: list[str]
    quorum: int
    directory_key: str
    vendor_roots: list[VendorRoot]
    manifests: list[str] = []
    """Reference manifests of GPUs, base64 of the XML: a release says by digest which of them count."""
    mirrors: list[str]
    relays: list[str]
    issuer: str
    issuer_name: str
    service: str
    """The name to which tokens are bound (RFC 9577 origin_info)."""
    token_type: Literal[2, 5] = 2
    """Of the tokens that its devices fetch. One for all: a device with another type than most would stand out."""
    minimum_security_version: int
    token_age: tuple[int, int] = (600, 7200)
    """Seconds that a token rests before it is used, drawn between these two (protocol section 4)."""
    relaxed: list[str] = []
    """Checks that this platform cannot offer, by name; each is shown to the user."""

    @classmethod
    def load(cls, path: Path) -> "Environment":
        """Read the environment file.

        Raises:
            ConfigError: missing, unreadable or wrong; a key or root in it that does not parse.
        """
        hint = f"looked for {path}; `sottovoce up` writes one for this machine"
        try:
            data = path.read_bytes()[: _LIMIT + 1]
            environment = msgspec.json.decode(data, type=cls)
            environment.log_policy()
            environment.session_policy()
            environment.directory_verifier()
        except OSError:
            raise ConfigError("there is no environment to talk to", hint=hint) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError, DecodeError, binascii.Error, UsageError):
            raise ConfigError("the environment file is wrong", hint=hint) from None
        return environment

    def install(self, home: Path) -> bool:
        """Pin this environment for the device in `home`; whether it had another log before.

        What belonged to the other one goes: its tokens, its account, its directory. Settings and reports stay.

        Raises:
            ConfigError: the device pins an environment that is not simulated.
            DiskError: a file cannot be written.
        """
        private_directory(home)
        path = home / FILE
        before = None
        with suppress(ConfigError):
            before = self.load(path)
        changed = before is None or before.log_key != self.log_key
        if before is not None and changed and not before.simulated:
            raise ConfigError(
                "this device belongs to another environment", hint="--home takes another folder"
            )
        if changed:
            for name in _OF_ONE_ENVIRONMENT:
                (home / name).unlink(missing_ok=True)
        write_private(path, msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
        return changed

    def directory_verifier(self) -> VerifierKey:
        """The key that signs the directory."""
        return VerifierKey.parse(self.directory_key)

    def log_policy(self) -> LogPolicy:
        """The pinned log and witnesses."""
        return LogPolicy(
            origin=self.log_origin,
            log_key=VerifierKey.parse(self.log_key),
            witnesses=tuple(VerifierKey.parse(key) for key in self.witnesses),
            quorum=self.quorum,
        )

    def session_policy(self) -> SessionPolicy:
        """What this device demands of an orchestrator."""
        roots = (
            Root(product=root.product, ark_der=base64.b64decode(root.ark, validate=True))
            for root in self.vendor_roots
        )
        snp, tdx, nvidia = platform_policies(roots)
        return SessionPolicy(
            environment=self.name,
            role="orchestrator",
            snp=snp,
            tdx=tdx,
            nvidia=nvidia,
            manifests=tuple(base64.b64decode(text, validate=True) for text in self.manifests),
            allow_simulated=self.simulated,
            minimum_security_version=self.minimum_security_version,
            relaxed=frozenset(self.relaxed),
            log=self.log_policy(),
            require_backends=_BACKENDS,
        )
