"""One device gets a token key of its own, and its tokens are known by it when they are spent (row 1)."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import rsa

from sottovoce.attacks.attack import OPERATOR, Attack, Result
from sottovoce.attacks.mirrors import show_directory
from sottovoce.core.tokens import TOKEN_TYPE, TokenKey
from sottovoce.edge.rsa import BlindSigner
from sottovoce.tlog.entries import Directory

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK"]


def _forge(directory: Directory) -> Directory:
    own = TokenKey(rsa=BlindSigner(rsa.generate_private_key(65537, 2048)).public)
    first, *others = directory.token_keys
    if first.token_type != TOKEN_TYPE:
        raise AssertionError("keys of type 2 come first")
    return replace(directory, token_keys=(replace(first, key=base64.b64encode(own.spki).decode()), *others))


def _live(lab: "Lab") -> Iterator[Result]:
    return show_directory(lab, _forge)


ATTACK: Final = Attack(
    name="own-token-key",
    row="1",
    who=f"{OPERATOR}, and the mirror; then with a relay too",
    tries="a directory for one device alone, with another token key, signed with the right key",
    stopped_by=("directory.refused",),
    live=_live,
)
