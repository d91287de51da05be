"""Wallets to be tested, alone and by two processes at once."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sottovoce.core.tokens import Token
from sottovoce.device.wallet import Schedule, Wallet

AT_ONCE: Final = Schedule(batch=4, age=(0, 0))
_NONCE: Final = 32


def new(path: Path, schedule: Schedule = AT_ONCE, seed: int = 1) -> Wallet:
    return Wallet(path, schedule=schedule, draw=random.Random(seed))  # noqa: S311 - the test must repeat


def tokens(count: int) -> list[Token]:
    """Tokens of the right form; the wallet does not look at signatures again."""
    return [Token.decode(b"\x00\x02" + os.urandom(352)) for _ in range(count)]


def sent_by_two_processes(path: Path, act: Callable[[Wallet, Callable[[Token], None]], None]) -> list[bytes]:
    """The nonces of what two processes on one file send at the same time; `act` is what each does, told how to send."""
    out, into = os.pipe()

    def send(token: Token) -> None:
        os.write(into, token.nonce)

    children = []
    for seed in range(2):
        child = os.fork()
        if child == 0:
            try:
                act(new(path, seed=seed), send)
            finally:
                os._exit(0)
        children.append(child)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        sent = pipe.read()
    for child in children:
        os.waitpid(child, 0)
    return [sent[at : at + _NONCE] for at in range(0, len(sent), _NONCE)]
