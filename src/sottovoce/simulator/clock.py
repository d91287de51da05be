"""A clock that several processes share and that runs faster than the world's: days of a simulation in minutes.

    python -m sottovoce.simulator.clock FILE serve gateway --config …

runs a party as it is, by this clock in place of the machine's. No party has a setting for it: whoever starts one this way could as well
start another program. Only the time of day is replaced; time limits go by the machine's monotonic clock, as they do outside.
"""

import math
import mmap
import os
import runpy
import struct
import sys
import time
from pathlib import Path
from typing import Final

__all__ = ["SharedClock", "main"]

_STATE: Final = struct.Struct("<qddddq")
"""A count, then monotonic seconds, the unix seconds shown at that moment, the speed, the unix seconds at which it stands still, and the
count again: equal, if nobody was writing."""


class SharedClock:
    """The clock whose state is in a file; calling it gives unix seconds, as `time.time` does.

    It is wound up again and again, and stands still when nobody does: a machine that is busy with something else would otherwise let hours
    pass within a request.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR)
        try:
            self._state = mmap.mmap(descriptor, _STATE.size)
        finally:
            os.close(descriptor)

    @classmethod
    def create(cls, path: Path, start: float) -> "SharedClock":
        """A new clock that shows `start` and runs as fast as the world's."""
        path.write_bytes(_STATE.pack(0, time.monotonic(), start, 1.0, math.inf, 0))
        return cls(path)

    def __call__(self) -> float:
        """Unix seconds."""
        while True:
            before, since, shown, speed, limit, after = _STATE.unpack(self._state[:])
            if before == after:
                return float(min(shown + (time.monotonic() - since) * speed, limit))

    def run(self, speed: float, seconds: float = math.inf) -> None:
        """Go on from where it is at this speed, for so many seconds of the world's clock at most. One process does this."""
        shown, count = self(), int(_STATE.unpack(self._state[:])[0]) + 1
        new = _STATE.pack(count, time.monotonic(), shown, speed, shown + speed * seconds, count)
        self._state[:8] = new[:8]
        self._state[8:] = new[8:]


def main() -> None:
    """Run `sottovoce` with the arguments after the clock's file."""
    clock = SharedClock(Path(sys.argv[1]))
    sys.argv = ["sottovoce", *sys.argv[2:]]
    # Before anything is imported that keeps a reference to it.
    time.time = clock
    runpy.run_module("sottovoce", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
