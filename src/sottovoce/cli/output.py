"""Standard output that may be closed, full, or read to its beginning only."""

import contextlib
import os
import sys
from collections.abc import Iterator

from sottovoce.core.errors import ConfigError

__all__ = ["output"]


@contextlib.contextmanager
def output() -> Iterator[None]:
    """What is printed inside goes to standard output. A reader who has seen enough is no error, and changes no exit code.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard()
    except OSError:
        _discard()
        raise ConfigError("the output cannot be written", hint="is the disk full?") from None


def _discard() -> None:
    """Whatever is still in the buffers must not fail once more when the program ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        os.dup2(null, sys.stdout.fileno())
    os.close(null)
