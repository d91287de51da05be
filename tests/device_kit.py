"""What tests of the device share: a disk that is full, and a report."""

import base64
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sottovoce.device.reports import CheckLine, Report


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The nearest thing to a full disk: writes beyond `size` bytes of a file fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


CHECK = CheckLine(
    section="6.3",
    id="signature",
    title="Signature",
    status="pass",
    found="good",
    wanted="good",
    source="SNP",
    risk="lie",
)


def report(number: int = 0, **changes: Any) -> Report:
    values: dict[str, Any] = {
        "id": f"{number:032x}",
        "time": 1_790_000_000 + number,
        "feature": "summary",
        "outcome": "done",
        "environment": "sottovoce-simulated",
        "simulated": True,
        "relay": "relay-a",
        "size_class": 4096,
        "messages": ("3", "7"),
        "message_count": 2,
        "candidates": ("host-1", "host-2"),
        "evidence": base64.b64encode(b"evidence").decode(),
        "exporter": base64.b64encode(bytes(32)).decode(),
        "spki": base64.b64encode(b"spki").decode(),
        "verdict": (CHECK,),
        "release_index": 4,
        "host_index": 1,
    }
    return Report(**(values | changes))
