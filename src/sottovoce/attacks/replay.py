"""The operator records genuine evidence and shows it on a connection that ends in a program of its own (row 7)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import HOST, Attack, Trial
from sottovoce.attacks.between import Between, Impostor, evidence_of
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.binding import report_data
from sottovoce.attest.evidence import Evidence

if TYPE_CHECKING:
    from sottovoce.simulator.world import World

__all__ = ["ATTACK", "CHECKS", "TRIES", "attack"]

TRIES: Final = (
    "The operator opens a session of its own, records the genuine evidence of a genuine CVM, stops the CVMs, and shows that "
    "evidence to you from a program that would read your messages."
)
CHECKS: Final = frozenset({"binding"})
_EARLIER: Final = bytes(32)


def _same_key(stage: Stage, target: Target) -> Evidence:
    """Evidence of an earlier session of the very same TLS key: only the exporter is another."""
    earlier = Target(exporter=_EARLIER, spki=target.spki)
    return stage.evidence(target, data=report_data(earlier.leaf))


ATTACK: Final = Attack(
    name="replay",
    row="7",
    who=f"{HOST}, with what it has recorded; in the second trial with a CVM's TLS key too",
    tries="evidence of an earlier session, shown again",
    stopped_by=("binding",),
    trials=(
        Trial(
            tries="a genuine CVM's, recorded on a connection that is over",
            stopped_by=frozenset({"binding"}),
            forge=lambda stage, _: stage.earlier(),
            beside=True,
        ),
        Trial(
            tries="of an earlier session with the genuine key, and this key again",
            stopped_by=frozenset({"binding"}),
            forge=_same_key,
        ),
    ),
)


@contextmanager
def attack(world: "World") -> Iterator[Callable[[], str]]:
    """Replace both orchestrators; yields what the impostor has read."""
    ports = {name: world.port(name) for name in world.orchestrators}
    recording = evidence_of(next(iter(ports.values())))
    evidence = next(recording)
    recording.close()
    impostor = Impostor(lambda *_: evidence)
    with ExitStack() as stack:
        for name, port in ports.items():
            world.stop_one(name)
            stack.enter_context(Between(name, port)).play(impostor)
        yield lambda: f"showed the evidence {impostor.shown} times, read {impostor.read} bytes of yours"
