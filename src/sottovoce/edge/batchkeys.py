"""Files of the issuer's secret keys for tokens of type 5: 32 bytes, mode 0600.

Issuer and gateways hold the same files: such a token can be verified by who could have minted it, and by nobody else.
"""

import os
from collections.abc import Collection
from pathlib import Path

from sottovoce.core.errors import ConfigError
from sottovoce.core.privatetokens import PrivateTokenKey
from sottovoce.core.tokenkeys import TokenKeyError

__all__ = ["generate_batch_key", "load_batch_key"]


def generate_batch_key(path: Path | str, *, taken: Collection[int] = ()) -> bytes:
    """Make a key, write it to `path`, and return its public half, 32 bytes.

    `taken` holds the truncated ids of the other keys of this type in use, as for `rsa.generate_token_key`.

    Raises:
        ConfigError: `path` exists or cannot be written, or libsodium is not here.
    """
    while True:
        key = PrivateTokenKey.generate()
        if key.public.truncated_id not in taken:
            break
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.secret_bytes())
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        raise ConfigError("the token key cannot be written", hint=f"looked for {path}") from None
    return key.public.encoded


def load_batch_key(path: Path | str) -> PrivateTokenKey:
    """The key that `generate_batch_key` wrote.

    Raises:
        ConfigError: unreadable, or not a key; or libsodium is not here.
    """
    hint = f"looked for {path}"
    try:
        with Path(path).open("rb") as file:
            return PrivateTokenKey(file.read(33))
    except OSError:
        raise ConfigError("the token key cannot be read", hint=hint) from None
    except TokenKeyError:
        raise ConfigError("the token key is not a scalar of 32 bytes", hint=hint) from None
