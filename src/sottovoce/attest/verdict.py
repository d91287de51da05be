"""What was checked, line by line: the value found, the value wanted, and where the rule comes from."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple, TypeVar

from sottovoce.core.errors import PeerError, UsageError, VerificationError

__all__ = [
    "Check",
    "Checklist",
    "Rule",
    "Status",
    "Verdict",
    "VerificationRefused",
    "gained",
    "printable",
    "quietly",
]

_T = TypeVar("_T")


_NOTHING: Final = "-"
"""What is wanted where nothing is compared."""
_UNREACHED: Final = "could not be checked, as something before it failed"
"""What is found where a check was never reached; it counts as a failure."""


class Status(Enum):
    """The outcome of one check."""

    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    RELAXED = "relaxed"
    NOT_CHECKED = "not checked"


_GAINS: Final = {
    Status.FAIL.value: "without it, an attacker could",
    Status.RELAXED.value: "the policy lets that pass, so an attacker could",
}


def gained(status: str, risk: str) -> str:
    """What a check of this status leaves open, as a sentence; empty for one that holds, or that nobody looked at."""
    return f"{_GAINS[status]} {risk}" if status in _GAINS else ""


def printable(text: str) -> str:
    """`text` with U+FFFD for every character that does not print: what a peer has written must not steer a terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


@dataclass(frozen=True, slots=True)
class Rule:
    """What one check is about: the protocol's section, such as "6.7", what holds, where that comes from, what is at risk.

    `risk` ends the sentence "without it, an attacker could ...".
    """

    section: str
    title: str
    source: str
    risk: str


class Check(NamedTuple):
    """One line of a verdict: a rule under its stable `id`, what was found, and what was wanted."""

    id: str
    rule: Rule
    status: Status
    found: str
    wanted: str

    @property
    def text(self) -> str:
        """The whole line as text but for its status and section; nothing in it can steer a terminal."""
        wanted = f"wanted: {self.wanted}; " if self.wanted != _NOTHING else ""
        return printable(f"{self.rule.title}: {self.found} ({wanted}from: {self.rule.source}) [{self.id}]")

    @property
    def gain(self) -> str:
        """What a check that does not hold leaves open, as a sentence; empty for one that holds, or that nobody looked at."""
        return gained(self.status.value, self.rule.risk)

    def to_json(self) -> dict[str, str]:
        """The line as a JSON object."""
        return {
            "section": self.rule.section,
            "id": self.id,
            "title": self.rule.title,
            "status": self.status.value,
            "found": self.found,
            "wanted": self.wanted,
            "source": self.rule.source,
            "risk": self.rule.risk,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All lines, in the order of protocol section 6.

    `relaxed` names the checks that the policy had relaxed, failed or not: those whose failure does not refuse, and those that pass
    where the strict policy has them fail, as it accepts more.
    """

    checks: tuple[Check, ...]
    relaxed: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether no line refuses."""
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """The lines that refuse."""
        return tuple(check for check in self.checks if check.status is Status.FAIL)

    @property
    def causes(self) -> tuple[Check, ...]:
        """The lines that refuse on their own account, without those that could not be checked for that."""
        return tuple(check for check in self.failed if check.found != _UNREACHED)

    def count(self, status: Status) -> int:
        """How many lines have this outcome."""
        return sum(check.status is status for check in self.checks)

    def to_json(self) -> list[dict[str, str]]:
        """The lines as JSON objects."""
        return [check.to_json() for check in self.checks]

    def document(self, *, platform: str, policy: str, at: int, simulated: bool) -> dict[str, Any]:
        """The whole verdict as a JSON object, by `docs/verdict.schema.json`; `at` is in unix seconds."""
        return {
            "format": "sottovoce-verdict",
            "version": 1,
            "platform": platform,
            "policy": policy,
            "at": at,
            "simulated": simulated,
            "accepted": self.accepted,
            "relaxed": list(self.relaxed),
            "checks": self.to_json(),
        }

    def lines(self) -> list[str]:
        """The lines as text, whole; one that does not hold ends with what an attacker could do for that."""
        return [
            f"{c.status.value:<11} {c.rule.section:<5} {'; '.join(filter(None, (c.text, c.gain)))}"
            for c in self.checks
        ]


_HINT: Final = "Nothing was sent. The verdict says what was found and what was wanted, line by line."
_STALE_HINT: Final = f"{_HINT} Refresh the directory and try again."
HINTS: Final = dict.fromkeys(
    ("candidate", "host", "release-log-age", "host-log-age", "release-log-seen", "host-log-seen"), _STALE_HINT
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
            f"refused: check {first.rule.section} failed: {first.rule.title}",
            check=first.id,
            hint=HINTS.get(first.id, _HINT),
        )
        self.verdict = verdict


def quietly(step: Callable[[], _T]) -> _T | None:
    """The result of a step whose failure another line shows; None if it raises a `PeerError`."""
    try:
        return step()
    except PeerError:
        return None


@functools.cache
def _numbers(section: str) -> tuple[int, ...]:
    return tuple(map(int, section.split(".")))


class Checklist:
    """Collects lines for `rules`, by id. What fails and may be relaxed under the policy is marked so."""

    def __init__(
        self,
        rules: Mapping[str, Rule],
        *,
        relaxed: Iterable[str] = (),
        lowered: Iterable[str] = (),
        left_out: Iterable[str] = (),
    ) -> None:
        """Begin a list; `left_out` names rules that stand in the verdict as not checked, whatever is found.

        No session leaves one out: it is for looking at single papers. `lowered` names rules of which the policy demands less than the
        strict one: the verdict names those that it has beside the relaxed ones.
        """
        self._rules = rules
        self._lowered = frozenset(lowered) & rules.keys()
        self._left_out = frozenset(left_out)
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
        self._put(check, Status.NOT_CHECKED, why, _NOTHING)

    def _put(self, check: str, status: Status, found: str, wanted: str) -> None:
        if check in self._left_out and status is not Status.NOT_CHECKED:
            status, wanted = Status.NOT_CHECKED, "nothing: the policy leaves it out"
        if check in self._lines:
            raise UsageError("a check was recorded twice")
        self._lines[check] = Check(
            id=check, rule=self._rules[check], status=status, found=found, wanted=wanted
        )

    def verdict(self, *, without: Iterable[str] = ()) -> Verdict:
        """All lines in the protocol's order; what was never reached stands as a failure, never as nothing.

        `without` names rules that do not apply.
        """
        for check in self._rules.keys() - set(without):
            if check not in self._lines:
                failed = Status.RELAXED if check in self._relaxed else Status.FAIL
                self._put(check, failed, _UNREACHED, "checked")
        found = [self._lines[check] for check in self._rules if check in self._lines]
        found.sort(
            key=lambda line: _numbers(line.rule.section)
        )  # stable: within a section, as the rules stand
        return Verdict(checks=tuple(found), relaxed=tuple(sorted(self._relaxed | self._lowered)))
