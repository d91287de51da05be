"""Where a CVM's connections to its back ends go: by TCP, or to a port of its own host."""

import socket

import pytest

from sottovoce.core.errors import UnavailableError
from sottovoce.tee import backend
from sottovoce.tee.settings import VSOCK


class Kernel:
    """Stands for a machine with sockets to its host, which this one need not have."""

    asked: list[object]

    def __init__(self, family: int, kind: int) -> None:
        self.asked = [family, kind]
        Kernel.last = self

    def settimeout(self, seconds: float) -> None:
        self.asked.append(seconds)

    def connect(self, address: tuple[int, int]) -> None:
        self.asked.append(address)
        if address[1] == 1:
            raise ConnectionResetError

    def close(self) -> None:
        self.asked.append("closed")

    last: "Kernel"


def test_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", Kernel)
    backend.connect((VSOCK, 9100), party="guard", timeout=3)
    # VMADDR_CID_HOST is 2 (linux/vm_sockets.h).
    assert Kernel.last.asked == [socket.AF_VSOCK, socket.SOCK_STREAM, 3, (2, 9100)]
    with pytest.raises(UnavailableError):
        backend.connect((VSOCK, 1), party="guard", timeout=3)
    assert Kernel.last.asked[-1] == "closed"
