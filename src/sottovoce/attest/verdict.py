"""What was checked, line by line: the value found, the value wanted, and where the rule comes from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

from sottovoce.core.errors import PeerError, UsageError, VerificationError

__all__ = ["TITLES", "Check", "Checklist", "Status", "Verdict", "VerificationRefused", "quietly"]

_T = TypeVar("_T")


class Status(Enum):
    """The outcome of one check."""

    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    RELAXED = "relaxed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of a verdict. `section` is the protocol's, such as "6.7"; `id` is stable."""

    section: str
    id: str
    title: str
    status: Status
    found: str
    wanted: str
    source: str

    def to_json(self) -> dict[str, str]:
        """The line as a JSON object."""
        return {
            "section": self.section,
            "id": self.id,
            "title": self.title,
            "status": self.status.value,
            "found": self.found,
            "wanted": self.wanted,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All lines, in the order of protocol section 6."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The lines that refuse."""
        return tuple(check for check in self.checks if check.status is Status.FAIL)

    def count(self, status: Status) -> int:
        """How many lines have this outcome."""
        return sum(check.status is status for check in self.checks)

    def to_json(self) -> list[dict[str, str]]:
        """The lines as JSON objects."""
        return [check.to_json() for check in self.checks]

    def lines(self) -> list[str]:
        """The lines as text."""
        return [f"{c.status.value:<11} {c.section:<5} {c.title}: {c.found}" for c in self.checks]


_HINT: Final = "Nothing was sent. The verdict says what was found and what was wanted, line by line."
HINTS: Final = dict.fromkeys(
    ("candidate", "host", "release-log-age", "host-log-age", "release-log-seen", "host-log-seen"),
    f"{_HINT} Refresh the directory and try again.",
)
"""What may help, where something can be merely out of date."""


class VerificationRefused(VerificationError):  # noqa: N818 - it says what was done
    """At least one check failed, so nothing of the user's was sent.

    Attributes:
        verdict: every line, also those that passed.
    """

    def __init__(self, verdict: Verdict) -> None:
        first = verdict.failed[0]
        # What was found is the peer's, so it stands in the verdict only.
        super().__init__(
            f"refused: check {first.section} failed: {first.title}",
            check=first.id,
            hint=HINTS.get(first.id, _HINT),
        )
        self.verdict = verdict


TITLES: Final[dict[str, tuple[str, str, str]]] = {  # the id, then section, title and source
    "decode": ("6.1", "evidence decodes within its limits", "RFC 9999; RFC 8949 §4.2.1"),
    "chain": ("6.2", "platform key leads to the vendor root", "AMD 57230"),
    "chain-dates": ("6.2", "certificates are valid now", "RFC 5280 §4.1.2.5"),
    "revocation-list": ("6.2", "vendor's revocation list is signed by the root", "RFC 5280 §5"),
    "revocation-list-dates": ("6.2", "vendor's revocation list is current", "RFC 5280 §5.1.2.5"),
    "revoked": ("6.2", "no certificate is revoked", "RFC 5280 §5; protocol §3"),
    "product-match": ("6.2", "root, certificate, report and platform name one product", "AMD 57230"),
    "product": ("6.2", "processor product is accepted", "protocol 6.2"),
    "version": ("6.3", "report version", "AMD 56860 table 23"),
    "signature": ("6.3", "report is signed by the platform key", "AMD 56860 §7.3"),
    "signing-key": ("6.3", "signing key is a VCEK", "AMD 56860 table 23"),
    "tcb-certificate": ("6.4", "patch levels of certificate and report are equal", "AMD 57230"),
    "tcb-floor": ("6.4", "patch levels are at or above the floor", "client policy"),
    "tcb-committed": ("6.4", "committed patch levels are not below the reported", "AMD 56860 §3.3"),
    "hardware-id": ("6.5", "certificate and report name one chip", "AMD 57230, hwID"),
    "host": ("6.5", "the chip is in the host list", "protocol 6.5"),
    "candidate": ("6.5", "the host is one that this device drew", "protocol §2"),
    "policy-reserved": ("6.6", "no unknown guest policy bit is set", "AMD 56860 table 10"),
    "policy-debug": ("6.6", "guest cannot be debugged", "AMD 56860 table 10, bit 19"),
    "policy-migrate": ("6.6", "guest cannot be migrated", "AMD 56860 table 10, bit 18"),
    "policy-smt": ("6.6", "guest refuses hyper-threading", "AMD 56860 table 10, bit 16"),
    "policy-cxl": ("6.6", "guest refuses CXL memory", "AMD 56860 table 10, bit 21"),
    "policy-single-socket": ("6.6", "guest stays on one socket", "AMD 56860 table 10, bit 20"),
    "policy-aes-256-xts": ("6.6", "guest demands AES-256-XTS memory", "AMD 56860 table 10, bit 22"),
    "policy-rapl": ("6.6", "guest demands RAPL off", "AMD 56860 table 10, bit 23"),
    "policy-ciphertext-hiding": ("6.6", "guest demands ciphertext hiding", "AMD 56860 table 10, bit 24"),
    "platform-reserved": ("6.6", "no unknown platform bit is set", "AMD 56860 table 24"),
    "platform-smt": ("6.6", "hyper-threading is off", "AMD 56860 table 24, bit 0"),
    "platform-rapl": ("6.6", "RAPL is off", "AMD 56860 table 24, bit 3"),
    "platform-ciphertext-hiding": ("6.6", "ciphertext hiding is on", "AMD 56860 table 24, bit 4"),
    "platform-alias-check": ("6.6", "memory alias check is complete", "AMD-SB-3015; table 24, bit 5"),
    "vmpl": ("6.6", "report was asked for at the release's VMPL", "AMD 56860 table 23"),
    "binding": ("6.7", "report is bound to this connection", "protocol §5; RFC 8446 §7.5"),
    "release-log": ("6.9", "release is in the log, seen by enough witnesses", "C2SP tlog-proof"),
    "release-log-age": ("6.9", "the log's checkpoint is fresh", "protocol 6.9"),
    "release-log-seen": ("6.9", "the release's log is the one that this device saw", "RFC 9162 §2.1.4"),
    "log-fork": ("6.9", "all proofs are of one log, never two of one size", "RFC 9162 §2.1.4"),
    "measurement": ("6.8", "launch measurement is the release's", "AMD 56860 §8.17"),
    "role": ("6.8", "release has the role asked for", "protocol 6.8"),
    "platform": ("6.8", "release is for this platform", "protocol 6.8"),
    "release-dates": ("6.8", "release is within its 21 days", "protocol §10"),
    "security-version": ("6.8", "release is recent enough", "client policy"),
    "release-revoked": ("6.8", "release is not revoked", "protocol §3"),
    "host-log": ("6.10", "host is in the log, seen by enough witnesses", "C2SP tlog-proof"),
    "host-log-age": ("6.10", "the host's checkpoint is fresh", "protocol 6.9"),
    "host-log-seen": ("6.10", "the host's log is the one that this device saw", "RFC 9162 §2.1.4"),
    "accelerators": ("6.11", "every declared accelerator is attested", "protocol 6.11"),
    "backend-predictor": ("6.12", "predictor runs a logged release of its role", "protocol 6.12"),
    "backend-guard": ("6.12", "guard runs a logged release of its role", "protocol 6.12"),
    "backends-only": ("6.12", "no other back ends are shown", "protocol 6.12"),
}


def quietly(step: Callable[[], _T]) -> _T | None:
    """The result of a step whose failure another line shows; None if it raises a `PeerError`."""
    try:
        return step()
    except PeerError:
        return None


class Checklist:
    """Collects lines. What fails and may be relaxed under the policy is marked so."""

    def __init__(self, relaxed: Iterable[str] = ()) -> None:
        self._relaxed = frozenset(relaxed)
        self._lines: dict[str, Check] = {}

    def add(self, check: str, *, ok: bool, found: str, wanted: str) -> bool:
        """Record one check; returns `ok`."""
        failed = Status.RELAXED if check in self._relaxed else Status.FAIL
        self._put(check, Status.PASS if ok else failed, found, wanted)
        return ok

    def attempt(self, check: str, step: Callable[[], _T], *, wanted: str) -> _T | None:
        """Run a step that returns or raises a `PeerError`, whose message becomes the value found."""
        try:
            result = step()
        except PeerError as error:
            self.add(check, ok=False, found=str(error), wanted=wanted)
            return None
        self.add(check, ok=True, found="yes", wanted=wanted)
        return result

    def skip(self, check: str, why: str) -> None:
        """Record a check that is left to somebody else, or that has nothing to look at."""
        self._put(check, Status.NOT_CHECKED, why, "-")

    def _put(self, check: str, status: Status, found: str, wanted: str) -> None:
        section, title, source = TITLES[check]
        if check in self._lines:
            raise UsageError("a check was recorded twice")
        self._lines[check] = Check(
            section=section,
            id=check,
            title=title,
            status=status,
            found=found,
            wanted=wanted,
            source=source,
        )

    def verdict(self, applicable: Iterable[str] = tuple(TITLES)) -> Verdict:
        """All lines in the protocol's order; what was never reached stands as a failure, never as nothing."""
        for check in applicable:
            if check not in self._lines:
                self._put(
                    check, Status.FAIL, "could not be checked, as something before it failed", "checked"
                )
        order = sorted(self._lines.values(), key=lambda line: tuple(map(int, line.section.split("."))))
        return Verdict(checks=tuple(order))
