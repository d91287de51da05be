"""Event logs of TDs (TCG PC Client firmware profile 1.06, section 10), for tests."""

import struct

__all__ = ["HEADER", "event"]

HEADER = struct.pack("<II20sI", 1, 3, bytes(20), 33) + b"Spec ID Event03\0" + bytes(17)


def event(register: int, digest: bytes, data: bytes = b"", *, kind: int = 8, algorithm: int = 12) -> bytes:
    head = struct.pack("<IIIH", register, kind, 1, algorithm) + digest
    return head + struct.pack("<I", len(data)) + data
