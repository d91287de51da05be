"""Words that stand nowhere else, to be searched for afterwards."""

import secrets

__all__ = ["canary"]

_LETTERS = str.maketrans("0123456789", "ghijklmnop")


def canary(name: str) -> str:
    """`name` and sixteen letters that nobody can guess; without digits, as a long number in a message is left out of a quote."""
    return name + secrets.token_hex(8).translate(_LETTERS)
