"""What the log has shown is taken out of it again, with signatures of now by its own key and by every witness (row 27).

Once a device goes on from the shorter log, that can be written on in another way, with proofs that are good. So entries are shown in the log as
it was before, and a device that has seen one entry more is shown today's directory. The mirror's consistency file is genuine, and proves
that the shorter log is the beginning of the longer one.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from sottovoce.attacks.attack import Attack, Outcome, Result, Trial
from sottovoce.attacks.mirrors import serving
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.evidence import Evidence, Logged
from sottovoce.core.errors import UnavailableError
from sottovoce.core.tokens import epoch_at
from sottovoce.device.directory import load_last_seen
from sottovoce.simulator.log_memory import MemoryLog
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.directoryfiles import HISTORY, history_name, proof_name
from sottovoce.tlog.history import History
from sottovoce.tlog.proof import Proof

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK"]

_REFUSED: Final = frozenset({"directory.refused"})


def _of_size(stage: Stage, size: int) -> MemoryLog:
    """The genuine log as it was when it had `size` entries, with the keys to sign it now."""
    log = MemoryLog(stage.log_key.name)
    log.key, log.witnesses, log.leaves = stage.log_key, stage.witnesses, list(stage.leaves()[:size])
    return log


def _before(stage: Stage, logged: Logged) -> Logged:
    """`logged` in the log of which it was the last entry."""
    index = Proof.parse(logged.proof).index
    return Logged(entry=logged.entry, proof=_of_size(stage, index + 1).proof(index, now=stage.now))


def _release(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    return replace(evidence, release=_before(stage, evidence.release))


def _host(stage: Stage, target: Target) -> Evidence:
    evidence = stage.evidence(target)
    return replace(evidence, host=_before(stage, evidence.host))


def _live(lab: "Lab") -> Iterator[Result]:
    """Shows a new device today's directory in a log of one entry more, and then in the log as it is.

    Raises:
        UnavailableError: the device does not take the directory from the longer log.
    """
    stage = lab.stage(lab.world.orchestrators[0])
    files = {path.name: path.read_bytes() for path in (lab.world.folder / "mirror").iterdir()}
    proof = proof_name(epoch_at(stage.now))
    shorter, genuine = files[proof], Proof.parse(files[proof])
    size = Checkpoint.parse(genuine.note.text).size
    longer = _of_size(stage, size)
    longer.append(b"what is taken out again")
    history = History.of(longer.origin, longer.leaves, {size, *History.parse(files[HISTORY]).paths}).encode()
    files |= {HISTORY: history, proof: longer.proof(genuine.index, now=stage.now)}
    with serving(files) as mirror, lab.another_device() as home, lab.passing():
        msgspec.structs.replace(lab.world.environment(), mirrors=[mirror]).install(home)
        stopped = lab.ask()
        seen = load_last_seen(home / "last-directory.json")
        if stopped or seen is None or seen.checkpoint.size != size + 1:
            raise UnavailableError("a device does not take the genuine directory", party="directory")
        # It asks again: what it keeps until its next refresh is over.
        (home / "directory.json").unlink()
        files |= {proof: shorter, history_name(size): history}
        stopped = lab.ask()
    yield Result(
        tries="today's directory in the log without its last entry",
        wanted=_REFUSED,
        outcome=Outcome(stopped_by=stopped),
    )


ATTACK: Final = Attack(
    name="rolled-back-log",
    row="27",
    who="the log's operator and all witnesses together, in the end with a mirror too, against a device that has seen the log before",
    tries="the log as it was before, without what came later, which everybody has signed anew",
    stopped_by=("release-log-seen", "host-log-seen", "directory.refused"),
    trials=(
        Trial(
            tries="the release in the log of which it was the last entry",
            stopped_by=frozenset({"release-log-seen"}),
            forge=_release,
        ),
        Trial(
            tries="the host in the log of which it was the last entry",
            stopped_by=frozenset({"host-log-seen"}),
            forge=_host,
        ),
    ),
    live=_live,
)
