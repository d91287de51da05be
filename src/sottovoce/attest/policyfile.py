"""A verifier's policy as a file (TOML), for papers that are looked at on their own; docs/policy.md describes it.

    version = 1
    relax = ["policy-smt"]                 # checks whose failure is shown and does not refuse
    demand = ["policy-page-swap"]          # optional checks that must pass

    [snp]
    products = ["Genoa", "Turin"]
    [snp.floors.Genoa]                     # replaces the built-in floor of this part
    bootloader = 10
    tee = 0
    snp = 28
    microcode = 86
    source = "AMD-SB-3034"
    [snp.expect]                           # reference values, lower-case hexadecimal
    measurements = ["…"]

    [tdx]
    statuses = ["UpToDate", "SWHardeningNeeded"]
    advisories = ["INTEL-SA-00000"]        # accepted although they apply
    evaluation = 17                        # lowest number of Intel's evaluation of patch levels
    [tdx.expect]
    mrtds = ["…"]

    [nvidia]
    architectures = ["HOPPER"]
    modes = ["SPT", "PPCIE"]
    revoked = ["…"]                        # SHA-256 of certificates

What the file does not say is as in the strict policy. An unknown name is an error, and there is no name that switches off the
signatures, the chain or the refusal of debug mode.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sottovoce.attest.nvidia.evidence import ARCHITECTURES
from sottovoce.attest.nvidia.opaque import MODES
from sottovoce.attest.nvidia.policy import NvidiaPolicy
from sottovoce.attest.nvidia.verify import NVIDIA_CHAIN_ONLY, NVIDIA_RELAXABLE
from sottovoce.attest.paravisor.verify import PARAVISOR_CHAIN_ONLY, PARAVISOR_RELAXABLE
from sottovoce.attest.policy import RELAXABLE, SessionPolicy, SnpPolicy, TdxPolicy
from sottovoce.attest.snp.floors import FLOORS, PARTS, Floor
from sottovoce.attest.snp.layout import Tcb
from sottovoce.attest.snp.rules import SNP_OPTIONAL_RULES
from sottovoce.attest.snp.verify import SNP_CHAIN_ONLY, SNP_RELAXABLE, SnpReferences
from sottovoce.attest.tdx.verify import TDX_CHAIN_ONLY, TDX_RELAXABLE, TdxReferences
from sottovoce.attest.vendors import amd_roots, intel_root, nvidia_roots
from sottovoce.core.errors import ConfigError, UsageError

__all__ = ["BUILT_IN", "VerifierPolicy", "built_in", "parse_policy"]

_LIMIT: Final = 256 * 1024
_VERSION: Final = 1
_LEVEL: Final = 255
_HINT: Final = "docs/policy.md lists what a policy file may say"
_LINES: Final = frozenset({"Milan", "Genoa", "Siena", "Turin"})
# Intel PCS API v4, tcbStatus, without the one that is never accepted; and the two that Intel's DCAP library adds for a TD that was
# started before its TDX module was updated, and runs on the new one.
_STATUSES: Final = frozenset(
    {
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "TDRelaunchAdvised",
        "TDRelaunchAdvisedConfigurationNeeded",
    }
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ADVISORY: Final = re.compile(r"INTEL-SA-[0-9]{5}", re.ASCII)
BUILT_IN: Final = ("strict", "chain-only")
"""Policies that need no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierPolicy:
    """What a verifier of single papers demands.

    Attributes:
        name: "strict", "chain-only", or the file's.
        relaxed: checks whose failure is shown and does not refuse.
        chain_only: only signatures and chains are judged; everything else stands as not checked.
    """

    name: str
    relaxed: frozenset[str] = frozenset()
    chain_only: bool = False
    snp: SnpPolicy = field(default_factory=lambda: SnpPolicy(roots=amd_roots()))
    snp_references: SnpReferences = field(default_factory=SnpReferences)
    tdx: TdxPolicy = field(default_factory=lambda: TdxPolicy(root=intel_root()))
    tdx_references: TdxReferences = field(default_factory=TdxReferences)
    nvidia: NvidiaPolicy = field(default_factory=lambda: NvidiaPolicy(roots=nvidia_roots()))

    @property
    def snp_left_out(self) -> frozenset[str]:
        """The checks of an SNP report that stand as not checked."""
        return SNP_CHAIN_ONLY if self.chain_only else frozenset()

    @property
    def paravisor_left_out(self) -> frozenset[str]:
        """The checks of a paravisor's evidence that stand as not checked."""
        return PARAVISOR_CHAIN_ONLY if self.chain_only else frozenset()

    @property
    def tdx_left_out(self) -> frozenset[str]:
        """The checks of a TDX quote that stand as not checked."""
        return TDX_CHAIN_ONLY if self.chain_only else frozenset()

    @property
    def nvidia_left_out(self) -> frozenset[str]:
        """The checks of GPUs and switches that stand as not checked."""
        return NVIDIA_CHAIN_ONLY if self.chain_only else frozenset()

    def for_session(self, pinned: SessionPolicy) -> SessionPolicy:
        """The session policy `pinned` with this policy's demands; the roots stay the pinned ones.

        Raises:
            ConfigError: it relaxes what a session cannot do without, or has reference values.
        """
        if self.snp_references.given or self.tdx_references.given:
            raise ConfigError("a session takes its reference values from its release", hint=_HINT)
        if self.chain_only or not self.relaxed <= RELAXABLE:
            raise ConfigError("this policy leaves out what a session cannot do without", hint=_HINT)
        snp = replace(self.snp, roots=pinned.snp.roots)
        tdx = pinned.tdx and replace(self.tdx, root=pinned.tdx.root, simulated=pinned.tdx.simulated)
        nvidia = pinned.nvidia and replace(self.nvidia, roots=pinned.nvidia.roots)
        return replace(pinned, snp=snp, tdx=tdx, nvidia=nvidia, relaxed=pinned.relaxed | self.relaxed)


def built_in(name: str) -> VerifierPolicy:
    """The policy of that name, one of `BUILT_IN`.

    Raises:
        ConfigError: there is none.
    """
    if name not in BUILT_IN:
        raise ConfigError(
            "there is no built-in policy of this name", hint=f"there are {' and '.join(BUILT_IN)}"
        )
    return VerifierPolicy(name=name, chain_only=name == "chain-only")


def parse_policy(data: bytes, *, name: str) -> VerifierPolicy:
    """The policy in a TOML document; `name` is shown in every verdict that it leads to.

    Raises:
        ConfigError: not TOML, of another version, or with a name or value that there is not.
    """
    if len(data) > _LIMIT:
        raise ConfigError("the policy file is longer than its limit", hint=_HINT)
    try:
        document = tomllib.loads(data.decode())
    except (
        ValueError,
        RecursionError,
    ):  # ValueError: neither TOML, nor UTF-8, nor a number of a length that Python reads
        raise ConfigError("the policy file is not TOML", hint=_HINT) from None
    try:
        return _policy(_Table(document, "the policy file"), name)
    except ConfigError:
        raise
    except UsageError as error:
        raise ConfigError(f"the policy file: {error}", hint=_HINT) from None


class _Table:
    """Takes typed members out of one table; whatever is left over is an error."""

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise ConfigError(f"{what} is not a table", hint=_HINT)
        self._members, self._what = dict(value), what

    def _wrong(self, name: str) -> ConfigError:
        return ConfigError(f"{self._what} has a wrong value for {name}", hint=_HINT)

    def take(self, name: str, kind: type) -> Any:
        value = self._members.pop(name, None)
        if value is not None and type(value) is not kind:
            raise self._wrong(name)
        return value

    def number(self, name: str, *, most: int = 1 << 32) -> int | None:
        value: int | None = self.take(name, int)
        if value is not None and not 0 <= value <= most:
            raise self._wrong(name)
        return value

    def names(self, name: str, known: frozenset[str]) -> frozenset[str] | None:
        values = self.take(name, list)
        if values is None:
            return None
        if not all(isinstance(one, str) for one in values):
            raise self._wrong(name)
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"{self._what}: {name} has an unknown name: {unknown[0]:.60}", hint=_HINT)
        return frozenset(values)

    def many(self, name: str, form: re.Pattern[str]) -> frozenset[str] | None:
        values = self.take(name, list)
        if values is None:
            return None
        if not all(isinstance(one, str) and form.fullmatch(one) for one in values):
            raise self._wrong(name)
        return frozenset(values)

    def octets(self, name: str) -> bytes | None:
        value = self.take(name, str)
        return None if value is None else self._unhex(name, value)

    def many_octets(self, name: str) -> frozenset[bytes] | None:
        values = self.take(name, list)
        return None if values is None else frozenset(self._unhex(name, value) for value in values)

    def _unhex(self, name: str, value: Any) -> bytes:
        try:
            return bytes.fromhex(value)
        except (TypeError, ValueError):
            raise self._wrong(name) from None

    def table(self, name: str) -> "_Table":
        within = f"{self._what[1:-1]}." if self._what.startswith("[") else ""
        return _Table(self._members.pop(name, {}), f"[{within}{name}]")

    def items(self) -> Mapping[str, Any]:
        members, self._members = self._members, {}
        return members

    def end(self) -> None:
        if self._members:
            raise ConfigError(f"{self._what} has an unknown name: {min(self._members):.60}", hint=_HINT)


def _policy(table: _Table, name: str) -> VerifierPolicy:
    if table.take("version", int) != _VERSION:
        raise ConfigError("the policy file is of an unknown version", hint="it begins with: version = 1")
    known = SNP_RELAXABLE | TDX_RELAXABLE | PARAVISOR_RELAXABLE | NVIDIA_RELAXABLE
    relaxed = table.names("relax", known) or frozenset()
    demanded = table.names("demand", frozenset(SNP_OPTIONAL_RULES)) or frozenset()
    snp, tdx, nvidia = table.table("snp"), table.table("tdx"), table.table("nvidia")
    table.end()
    policy = VerifierPolicy(
        name=name,
        relaxed=relaxed,
        snp=_snp(snp, demanded),
        snp_references=_snp_references(snp.table("expect")),
        tdx=_tdx(tdx),
        tdx_references=_tdx_references(tdx.table("expect")),
        nvidia=_nvidia(nvidia),
    )
    snp.end()
    tdx.end()
    return policy


def _snp(table: _Table, demanded: frozenset[str]) -> SnpPolicy:
    policy = SnpPolicy(roots=amd_roots(), tightened=demanded)
    products = table.names("products", _LINES)
    floors = {part: _floor(value, part) for part, value in table.table("floors").items().items()}
    if unknown := sorted(floors.keys() - PARTS):
        raise ConfigError(f"[snp.floors] has an unknown part: {unknown[0]:.60}", hint=_HINT)
    if products is not None:
        policy = replace(policy, products=products)
    return replace(policy, floors={**FLOORS, **floors})


def _floor(value: Any, part: str) -> Floor:
    table = _Table(value, f"[snp.floors.{part:.60}]")
    levels = {
        name: table.number(name, most=_LEVEL) for name in ("bootloader", "tee", "snp", "microcode", "fmc")
    }
    source = table.take("source", str)
    table.end()
    if source is None or any(level is None for name, level in levels.items() if name != "fmc"):
        raise ConfigError(
            f"[snp.floors.{part:.60}] needs bootloader, tee, snp, microcode and a source", hint=_HINT
        )
    return Floor(tcb=Tcb(**levels), source=source)  # type: ignore[arg-type]  # None is refused above


def _snp_references(table: _Table) -> SnpReferences:
    references = SnpReferences(
        report_data=table.octets("report_data"),
        measurements=table.many_octets("measurements"),
        chips=table.many_octets("chips"),
        vmpl=table.number("vmpl", most=3),
        host_data=table.octets("host_data"),
        id_keys=table.many_octets("id_keys"),
        guest_svn=table.number("guest_svn"),
    )
    table.end()
    return references


def _tdx(table: _Table) -> TdxPolicy:
    policy = TdxPolicy(root=intel_root(), evaluation=table.number("evaluation"))
    statuses = table.names("statuses", _STATUSES)
    advisories = table.many("advisories", _ADVISORY)
    if statuses is not None:
        policy = replace(policy, statuses=statuses)
    return policy if advisories is None else replace(policy, advisories=advisories)


def _tdx_references(table: _Table) -> TdxReferences:
    references = TdxReferences(
        report_data=table.octets("report_data"),
        platforms=table.many_octets("platforms"),
        modules=table.many_octets("modules"),
        mrtds=table.many_octets("mrtds"),
        rtmrs=tuple(table.many_octets(f"rtmr{number}") for number in range(4)),
        mr_config_id=table.octets("mr_config_id"),
        mr_owner=table.octets("mr_owner"),
        mr_owner_config=table.octets("mr_owner_config"),
    )
    table.end()
    return references


def _nvidia(table: _Table) -> NvidiaPolicy:
    policy = NvidiaPolicy(roots=nvidia_roots(), revoked=table.many("revoked", _SHA256))
    architectures = table.names("architectures", frozenset(ARCHITECTURES))
    modes = table.names("modes", frozenset(MODES.values()))
    table.end()
    if architectures is not None:
        policy = replace(policy, architectures=architectures)
    return policy if modes is None else replace(policy, modes=modes)
