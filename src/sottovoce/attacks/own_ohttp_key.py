"""One device gets an OHTTP key of its own, and is known by it in every request (row 3)."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sottovoce.attacks.attack import OPERATOR, Attack, Result
from sottovoce.attacks.mirrors import show_directory
from sottovoce.core import hpke
from sottovoce.core.ohttp import GatewayKey, encode_key_configs
from sottovoce.tlog.entries import Directory

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK"]


def _forge(directory: Directory) -> Directory:
    own = [
        GatewayKey(key_id=number, private_key=hpke.generate_private_key(kem))
        for number, kem in enumerate((hpke.MLKEM768_X25519, hpke.X25519))
    ]
    configs = encode_key_configs([key.config() for key in own])
    return replace(directory, ohttp_key_configs=base64.b64encode(configs).decode())


def _live(lab: "Lab") -> Iterator[Result]:
    return show_directory(lab, _forge)


ATTACK: Final = Attack(
    name="own-ohttp-key",
    row="3",
    who=f"{OPERATOR}, and the mirror; then with a relay too",
    tries="a directory for one device alone, with another OHTTP key, signed with the right key",
    stopped_by=("directory.refused",),
    live=_live,
)
