"""What an attack is, what is tried in it, and what came of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sottovoce.attacks.rogue import RogueServer
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence
from sottovoce.core.errors import SottovoceError

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["HOST", "OPERATOR", "Attack", "Outcome", "Result", "Trial", "refusal"]

OPERATOR: Final = "the operator, with genuine machines and the right to enter things in the log"
HOST: Final = "the operator of the machines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Evidence, forged for the connection that a device has just opened.

    Attributes:
        tries: what is tried, in a few words.
        stopped_by: the checks that fail on their own account: these and no others. Or one error code.
        forge: the evidence that is shown.
        server: what the device talks to.
        beside: it needs a genuine CVM beside it, on the machine to which the device was sent.
        undrawn: it counts only where the device has not drawn `stage.another()`.
    """

    tries: str
    stopped_by: frozenset[str]
    forge: Callable[[Stage, Target], Evidence | bytes]
    server: Callable[[Stage], RogueServer] = lambda _: RogueServer()
    beside: bool = False
    undrawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a device or a service said: the checks that failed on their own account, or one error code; nothing if it went on.

    `read` counts the bytes of the user's that the attacker got. `says` are the words of the refusal, where it has any.
    """

    stopped_by: frozenset[str]
    read: int = 0
    says: str = ""


def refusal(attempt: Callable[[], object]) -> Outcome:
    """What `attempt` is refused for, or nothing."""
    try:
        attempt()
    except SottovoceError as error:
        return Outcome(stopped_by=frozenset({error.code}), says=str(error))
    return Outcome(stopped_by=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One thing tried, what should have stopped it, and what did.

    Attributes:
        reason: words that the refusal must hold, where a code alone could mean something else.
        not_run: why it could not be tried here, and where it is tested; then nothing has come of it.
    """

    tries: str
    wanted: frozenset[str]
    outcome: Outcome = Outcome(stopped_by=frozenset())
    reason: str = ""
    not_run: str = ""

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped for the reason named and no other, with nothing read."""
        if self.not_run or not self.wanted or self.outcome.read:
            return False
        return self.outcome.stopped_by == self.wanted and self.reason in self.outcome.says

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {
            "tried": self.tries,
            "wanted": sorted(self.wanted),
            "found": sorted(self.outcome.stopped_by),
            "says": self.outcome.says,
            "bytes_read": self.outcome.read,
            "stopped": self.is_stopped,
            "not_run": self.not_run,
        }


def _nothing(_: Stage) -> tuple[bytes, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack of THREATS.

    Attributes:
        name: as on the command line; the module's name, with hyphens.
        row: the row of the threat list: a number of part A, or `B`.
        who: who could do it, and with which keys.
        tries: what is tried.
        stopped_by: what should stop it: check ids of the verdict, or error codes.
        trials: forged evidence, shown to the device.
        entries: what the operator enters in the log beforehand.
        live: what else is done against a running world.
        needs_image: an image is built for it, where that can be done.
        tested: where it is tested, for an attack that cannot be run here; and why it cannot.
    """

    name: str
    row: str
    who: str
    tries: str
    stopped_by: tuple[str, ...]
    trials: tuple[Trial, ...] = ()
    entries: Callable[[Stage], tuple[bytes, ...]] = _nothing
    live: "Callable[[Lab], Iterator[Result]] | None" = field(default=None)
    needs_image: bool = False
    tested: str = ""

    @property
    def runs(self) -> bool:
        """Whether it can be run here."""
        return bool(self.trials) or self.live is not None

    def run(self, lab: "Lab") -> Iterator[Result]:
        """Attack the lab's world, one result for each thing tried."""
        for trial in self.trials:
            yield Result(tries=trial.tries, wanted=trial.stopped_by, outcome=lab.show(trial))
        if self.live is not None:
            yield from self.live(lab)
