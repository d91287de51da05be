"""What a self-signed certificate says is believed (part B)."""

from typing import Final

from sottovoce.attacks.attack import HOST, Attack, Trial
from sottovoce.attacks.rogue import RogueServer
from sottovoce.attacks.stage import Stage, Target
from sottovoce.attest.binding import report_data
from sottovoce.attest.evidence import Evidence

__all__ = ["ATTACK"]

_NO_EXPORTER: Final = bytes(32)


def _for_the_key(stage: Stage, spki: bytes) -> Evidence:
    """Evidence that is bound to a key alone, and to no connection, as attested certificates have it."""
    leaf = Target(exporter=_NO_EXPORTER, spki=spki).leaf
    return stage.evidence(Target(exporter=_NO_EXPORTER, spki=spki), data=report_data(leaf))


def _dressed(stage: Stage) -> RogueServer:
    server = RogueServer()
    server.wear(lambda spki: _for_the_key(stage, spki).encode())
    return server


ATTACK: Final = Attack(
    name="malleable-certificate",
    row="B",
    who=f"{HOST}, who writes its own certificate",
    tries="evidence in an extension of the certificate, with a name that claims trust and a signature of another key",
    stopped_by=("decode", "binding"),
    trials=(
        Trial(
            tries="genuine evidence in the certificate, none in the first flight",
            stopped_by=frozenset({"decode"}),
            forge=lambda *_: b"",
            server=_dressed,
        ),
        Trial(
            tries="genuine evidence bound to the certificate's key alone, in both places",
            stopped_by=frozenset({"binding"}),
            forge=lambda stage, target: _for_the_key(stage, target.spki),
            server=_dressed,
        ),
    ),
)
