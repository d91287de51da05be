"""The checks of a session that are the same on every platform, in the order of protocol section 6."""

import functools
from collections.abc import Mapping
from typing import Final

from sottovoce.attest.evidence import TDX_KIND
from sottovoce.attest.snp.rules import SNP_OPTIONAL_RULES, SNP_RULES
from sottovoce.attest.tdx.rules import TDX_OPTIONAL_RULES, TDX_RULES
from sottovoce.attest.verdict import Rule

__all__ = ["SESSION_RULES", "session_rules"]

_OLD_LOG: Final = "show a log from before a revocation"
_FORK: Final = "show you a log that nobody else sees"

SESSION_RULES: Final[Mapping[str, Rule]] = {
    "decode": Rule(
        "6.1",
        "evidence decodes within its limits",
        "RFC 9999; RFC 8949 §4.2.1",
        "attack the verifier itself, with bytes that two readers read in two ways",
    ),
    "host": Rule(
        "6.5", "the chip is in the host list", "protocol 6.5", "use a chip whose keys it has taken out"
    ),
    "candidate": Rule(
        "6.5",
        "the host is one that this device drew",
        "protocol §2",
        "steer you to a machine that it has chosen for you",
    ),
    "binding": Rule(
        "6.7",
        "report is bound to this connection",
        "protocol §5; RFC 8446 §7.5",
        "show a genuine machine's evidence from a program that reads your messages",
    ),
    "measurement": Rule(
        "6.8",
        "launch measurement is the release's",
        "AMD 56860 §8.17; Intel TDX module ABI, MRTD",
        "start other software than what was published",
    ),
    "role": Rule(
        "6.8",
        "release has the role asked for",
        "protocol 6.8",
        "put a machine in a place for which it was never examined",
    ),
    "platform": Rule(
        "6.8", "release is for this platform", "protocol 6.8", "pass one platform's digest off as another's"
    ),
    "release-dates": Rule(
        "6.8", "release is within its 21 days", "protocol §10", "go on with a release that has been given up"
    ),
    "security-version": Rule(
        "6.8", "release is recent enough", "client policy", "go back to a release with a known hole"
    ),
    "release-revoked": Rule(
        "6.8", "release is not revoked", "protocol §3", "go on with a release that is known to be bad"
    ),
    "release-log": Rule(
        "6.9",
        "release is in the log, seen by enough witnesses",
        "C2SP tlog-proof",
        "make software for you alone that no researcher can find",
    ),
    "release-log-age": Rule("6.9", "the log's checkpoint is fresh", "protocol 6.9", _OLD_LOG),
    "release-log-seen": Rule(
        "6.9", "the release's log is the one that this device saw", "RFC 9162 §2.1.4", _FORK
    ),
    "log-fork": Rule("6.9", "all proofs are of one log, never two of one size", "RFC 9162 §2.1.4", _FORK),
    "host-log": Rule(
        "6.10",
        "host is in the log, seen by enough witnesses",
        "C2SP tlog-proof",
        "add a machine for you alone that nobody else is sent to",
    ),
    "host-log-age": Rule("6.10", "the host's checkpoint is fresh", "protocol 6.9", _OLD_LOG),
    "host-log-seen": Rule("6.10", "the host's log is the one that this device saw", "RFC 9162 §2.1.4", _FORK),
    "accelerators": Rule(
        "6.11",
        "every declared accelerator is attested",
        "protocol 6.11",
        "read your messages in a graphics processor outside the protection",
    ),
    "backend-predictor": Rule(
        "6.12",
        "predictor runs a logged release of its role",
        "protocol 6.12",
        "read your messages behind the machine that you see",
    ),
    "backend-guard": Rule(
        "6.12",
        "guard runs a logged release of its role",
        "protocol 6.12",
        "read your messages behind the machine that you see",
    ),
    "backends-only": Rule(
        "6.12", "no other back ends are shown", "protocol 6.12", "add a machine that reads your messages"
    ),
}


_OPTIONAL: Final = {**SNP_OPTIONAL_RULES, **TDX_OPTIONAL_RULES}


@functools.cache
def session_rules(kind: str, tightened: frozenset[str] = frozenset()) -> Mapping[str, Rule]:
    """The checks of a session on a platform of `kind`, with the optional ones of that platform that a policy demands."""
    platform = TDX_RULES if kind == TDX_KIND else SNP_RULES
    return {**SESSION_RULES, **platform, **{check: _OPTIONAL[check] for check in sorted(tightened)}}
