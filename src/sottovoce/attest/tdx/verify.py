"""A TDX quote on its own, without a session: what its signatures, Intel's collateral and its fields say.

    verdict = verify_quote(quote, collateral, policy=TdxPolicy(root=intel_root()), now=1_800_000_000)
    if verdict.accepted: ...

A session's evidence is verified by `attest.verify.verify_session`: it binds the quote to a connection, a release and a log.
"""

from dataclasses import dataclass
from typing import Final

from sottovoce.attest.policy import TdxPolicy
from sottovoce.attest.references import compare, only, require_sizes
from sottovoce.attest.tdx.appraisal import appraise
from sottovoce.attest.tdx.collateral import Collateral
from sottovoce.attest.tdx.eventlog import EventLog
from sottovoce.attest.tdx.layout import Quote, require_quote
from sottovoce.attest.tdx.policy import HostConfig
from sottovoce.attest.tdx.rules import TDX_OPTIONAL_RULES, TDX_REFERENCE_RULES, TDX_RULES
from sottovoce.attest.verdict import Checklist, Verdict
from sottovoce.core.errors import UsageError

__all__ = ["TDX_CHAIN_ONLY", "TDX_RELAXABLE", "TdxReferences", "verify_quote"]

_RULES: Final = {**TDX_RULES, **TDX_OPTIONAL_RULES, **TDX_REFERENCE_RULES}
TDX_RELAXABLE: Final = frozenset(
    {
        "tdx-advisories",
        "tdx-attributes-reserved",
        "tdx-collateral-dates",
        "tdx-config",
        "tdx-devices",
        "tdx-hardware-id",
        "tdx-migratable",
        "tdx-partition",
        "tdx-perfmon",
        "tdx-sept-ve-disable",
        "tdx-service-td",
        "tdx-tcb-status",
        "tdx-trailing",
        "tdx-xfam",
    }
)
"""What a policy may relax for a quote on its own. Signatures, collateral, debug mode and the module are never relaxed."""
TDX_CHAIN_ONLY: Final = frozenset(
    _RULES.keys() - {"tdx-collateral", "tdx-collateral-dates", "tdx-version", "tdx-signature"}
)
"""What the policy `chain-only` leaves out: everything but signatures, chain and collateral."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxReferences:
    """What a quote is compared with. A value that is not given is shown as not checked, never as passed.

    Attributes:
        report_data: 64 bytes.
        platforms: PPIDs, 16 bytes each; one of them.
        modules: MRSEAM, 48 bytes each; one of them.
        mrtds: MRTD, 48 bytes each; one of them.
        rtmrs: for RTMR0 to RTMR3, 48 bytes each; one of them, or None for any.
        mr_config_id, mr_owner, mr_owner_config: 48 bytes; zero is wanted where none is given.
    """

    report_data: bytes | None = None
    platforms: frozenset[bytes] | None = None
    modules: frozenset[bytes] | None = None
    mrtds: frozenset[bytes] | None = None
    rtmrs: tuple[frozenset[bytes] | None, ...] = (None,) * 4
    mr_config_id: bytes | None = None
    mr_owner: bytes | None = None
    mr_owner_config: bytes | None = None

    def __post_init__(self) -> None:
        if len(self.rtmrs) != 4:  # noqa: PLR2004 - there are four
            raise UsageError("there are four run-time measurements")
        require_sizes("report data", only(self.report_data), (64,))
        require_sizes("platform id", self.platforms, (16,))
        digests = (only(one) for one in (self.mr_config_id, self.mr_owner, self.mr_owner_config))
        for values in (self.modules, self.mrtds, *self.rtmrs, *digests):
            require_sizes("measurement", values, (48,))

    @property
    def config(self) -> HostConfig | None:
        """What the fields that the host fills in must hold; None if nothing is said of them."""
        if not (self.mr_config_id or self.mr_owner or self.mr_owner_config):
            return None
        zero = HostConfig()
        return HostConfig(
            mr_config_id=self.mr_config_id or zero.mr_config_id,
            mr_owner=self.mr_owner or zero.mr_owner,
            mr_owner_config=self.mr_owner_config or zero.mr_owner_config,
        )

    @property
    def given(self) -> frozenset[str]:
        """The checks for which there is a value to compare with."""
        values = {
            "report-data": self.report_data,
            "tdx-platform": self.platforms,
            "tdx-module": self.modules,
            "tdx-mrtd": self.mrtds,
            "tdx-config": self.mr_config_id or self.mr_owner or self.mr_owner_config,
            **{f"tdx-rtmr-{number}": value for number, value in enumerate(self.rtmrs)},
        }
        return frozenset(check for check, value in values.items() if value is not None)


def verify_quote(
    quote: bytes,
    collateral: bytes,
    *,
    policy: TdxPolicy,
    now: int,
    event_log: bytes = b"",
    references: TdxReferences | None = None,
    relaxed: frozenset[str] = frozenset(),
    left_out: frozenset[str] = frozenset(),
) -> Verdict:
    """Every check of a quote with Intel's collateral (JSON, see `tdx.collateral`), at `now`, unix seconds.

    `event_log` is the CCEL's data, if there is one; it is replayed and compared with the quote's registers.

    Raises:
        DecodeError: an input is not what it should be at all, so that there is nothing to judge.
        UsageError: `relaxed` or `left_out` names a check that cannot be relaxed or left out.
    """
    if not relaxed <= TDX_RELAXABLE:
        raise UsageError("a policy relaxes a check that cannot be relaxed")
    if not left_out <= TDX_CHAIN_ONLY:
        raise UsageError("a policy leaves out a check that is never left out")
    require_quote(quote)
    if collateral:
        Collateral.parse(collateral)
    replayed = EventLog.parse(event_log) if event_log else None
    wanted = references or TdxReferences()
    given = wanted.given | ({"tdx-event-log"} if replayed else frozenset())
    checks = Checklist(_RULES, relaxed=relaxed, lowered=policy.lowered, left_out=left_out - given)
    appraised = appraise(quote, collateral, policy, checks, now=now, config=wanted.config)
    if policy.evaluation is None:
        checks.skip("tdx-evaluation", "the policy does not demand it")
    if appraised is not None:
        platform, parsed = appraised
        compare("tdx-platform", platform.hardware_id, wanted.platforms, checks)
        _compare(parsed, wanted, checks)
        _event_log(parsed, replayed, checks)
    return checks.verdict()


def _compare(quote: Quote, wanted: TdxReferences, checks: Checklist) -> None:
    compare("report-data", quote.report_data, only(wanted.report_data), checks)
    compare("tdx-module", quote.mr_seam, wanted.modules, checks)
    compare("tdx-mrtd", quote.mr_td, wanted.mrtds, checks)
    for number, (found, values) in enumerate(zip(quote.rtmrs, wanted.rtmrs, strict=True)):
        compare(f"tdx-rtmr-{number}", found, values, checks)


def _event_log(quote: Quote, replayed: EventLog | None, checks: Checklist) -> None:
    if replayed is None:
        checks.skip("tdx-event-log", "no event log was given")
        return
    differs = [
        f"RTMR{n}"
        for n, pair in enumerate(zip(quote.rtmrs, replayed.registers, strict=True))
        if pair[0] != pair[1]
    ]
    found = f"{replayed.events} events" + (f", which lead to another {', '.join(differs)}" if differs else "")
    checks.add("tdx-event-log", ok=not differs, found=found, wanted="the quote's RTMR0 to RTMR3")
