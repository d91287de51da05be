"""How the time that something takes grows: by processor time, in turn, so that what disturbs one disturbs all."""

import gc
import time
from collections.abc import Callable

__all__ = ["seconds"]


def seconds(*works: Callable[[], object]) -> list[float]:
    """How much of a processor each takes, measured in turn; the least of three times, as what disturbs only adds."""
    took: list[list[float]] = []
    gc.disable()  # a pause of it is as long as everything is that the tests before have left
    try:
        for _ in range(3):
            took.append([])
            for work in works:
                began = time.process_time()
                work()
                took[-1].append(time.process_time() - began)
    finally:
        gc.enable()
    return [min(times) for times in zip(*took, strict=True)]
