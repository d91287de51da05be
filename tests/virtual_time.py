"""An event loop whose clock stands still while there is work: a slow machine then misses no limit that it would keep on a fast one.

For tests in one thread: what another thread or process is about to send is no work that the loop can see.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

_QUIET = 0.1
"""Seconds for which nothing may be on its way on loopback before a longer wait is passed over."""


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.jump: Callable[[float], None] = lambda _: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(min(timeout, _QUIET))
        if not found:
            self.jump(timeout)
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        selector = _Selector()
        super().__init__(selector)
        self._now = 1000.0
        selector.jump = self._jump

    def _jump(self, seconds: float) -> None:
        self._now += seconds

    def time(self) -> float:
        return self._now


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end. Its sleeps and time limits are of this clock: what is to end a test that hangs is pytest's own."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(work)
