"""Processes that kill themselves (SIGKILL) at a chosen place: before or after the nth thing that they do to the disk. No clock says when."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any, Final

__all__ = ["killed_at", "places"]

_FORK: Final = multiprocessing.get_context("fork")
_TOUCHES: Final = ("open", "write", "fsync", "link", "rename", "replace", "unlink", "mkdir")
"""Of `os`: what changes the disk, or is about to."""


class _Stop:
    """Counts places; at number `last` the process ends as it would without power over what it had in mind."""

    def __init__(self, last: int | None) -> None:
        self.count = 0
        self._last = last

    def __call__(self) -> None:
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call` with a place before it and one after it."""

        def stopping(*arguments: Any, **named: Any) -> Any:
            self()
            found = call(*arguments, **named)
            self()
            return found

        return stopping


def _run(work: Callable[[], None], last: int | None, told: Any) -> None:
    stop = _Stop(last)
    for name in _TOUCHES:
        setattr(os, name, stop.around(getattr(os, name)))
    work()
    told.put(stop.count)


def places(work: Callable[[], None]) -> int:
    """How many places `work` has, run once to its end in a process of its own."""
    told = _FORK.SimpleQueue()
    process = _FORK.Process(target=_run, args=(work, None, told))
    process.start()
    process.join()
    assert process.exitcode == 0
    return int(told.get())


def killed_at(work: Callable[[], None], place: int) -> bool:
    """Run `work` in a process of its own that ends at `place`; whether it ended there, or had come to its end before."""
    process = _FORK.Process(target=_run, args=(work, place, _FORK.SimpleQueue()))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0
