"""What a signer is shown of a directory beside the one before.

The lines are made of the document's members, whatever they are and are called, so that nothing can change unseen: as many lines as there
are members and entries of lists, each with all that stands in it. Only keys are not written out; the SHA-256 of all of a key stands for it.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Final

from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.core.ohttp import decode_key_configs
from sottovoce.tlog.entries import Directory

__all__ = ["differences"]

_KEYS: Final = frozenset({"key", "ohttp_key_configs"})
"""Members in base64 that nobody can read."""


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    text: str
    number: str = field(default="", compare=False)
    """Of an entry in its list. Those behind a new one get another, and have not changed."""

    def __str__(self) -> str:
        return f"{self.name}{self.number}: {self.text}"


def differences(before: Directory | None, after: Directory) -> list[str]:
    """What a signer should look at, a line each: `-` for what is gone, `+` for what is new; both for an entry that has moved in its list.

    Lines are ASCII: a letter that only looks like another one is shown by its number.
    """
    old, new = [[] if one is None else [*_of(one)] for one in (before, after)]
    found = list[str]()
    for what, gone, stays, comes, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what != "equal":
            found += [f"- {line}" for line in old[gone:stays]] + [f"+ {line}" for line in new[comes:end]]
    return found


def _of(directory: Directory) -> Iterator[_Line]:
    yield from _flat("", directory.members())
    # Said once more, for people: the digest above covers all of it, and what cannot be read here.
    try:
        configs = decode_key_configs(base64.b64decode(directory.ohttp_key_configs, validate=True))
    except (DecodeError, UsageError, ValueError):
        yield _Line("OHTTP keys", "cannot be read")
        return
    for config in configs:
        suites = ", ".join(f"KDF {kdf:#06x} with AEAD {aead:#06x}" for kdf, aead in config.symmetric)
        key = _digest(config.public_key)
        yield _Line("OHTTP key", f"id {config.key_id}, KEM {config.kem_id:#06x}, {suites}, {key}")


def _flat(name: str, value: Any) -> Iterator[_Line]:
    if isinstance(value, Mapping):
        for member, inner in value.items():
            yield from _flat(f"{name} {member}".lstrip(), inner)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value, 1):
            yield _Line(name, _text(name, item), f" {number}")
    else:
        yield _Line(name, _text(name, value))


def _text(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{member} {_text(member, inner)}" for member, inner in value.items())
    return _key(value) if name in _KEYS else json.dumps(value)


def _key(encoded: str) -> str:
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError:
        data = b""
    # Several texts can stand for the same bytes: one that is not the usual one is shown as it is.
    return _digest(data) if base64.b64encode(data).decode() == encoded else json.dumps(encoded)


def _digest(data: bytes) -> str:
    return f"{len(data)} bytes with SHA-256 {hashlib.sha256(data).hexdigest()}"
