"""The lock file of an image: read as it is written, and nothing else is one."""

import msgspec
import pytest

from sottovoce.image.lock import Lock, LockError
from sottovoce.image.packages import Package
from sottovoce.image.wheels import Wheel

ONE = Package(
    name="libc6",
    version="2.36-9+deb12u14",
    suite="bookworm",
    path="pool/main/g/glibc/libc6_2.36-9+deb12u14_amd64.deb",
    sha256="ab" * 32,
    size=11,
)
OTHER = msgspec.structs.replace(ONE, name="base", version="1:2.0~rc1")
H11 = Wheel(file="h11-0.16.0-py3-none-any.whl", sha256="cd" * 32)
CRYPTO = Wheel(file="cryptography-50.0.2-cp311-abi3-manylinux_2_34_x86_64.whl", sha256="ef" * 32)


def test_written_sorted_and_read_back() -> None:
    lock = Lock(packages=(ONE, OTHER), wheels=(H11, CRYPTO))
    assert Lock.parse(lock.to_toml()) == Lock(packages=(OTHER, ONE), wheels=(CRYPTO, H11))
    assert Lock(packages=(OTHER, ONE), wheels=(CRYPTO, H11)).to_toml() == lock.to_toml()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Libc"},
        {"name": ""},
        {"version": "1 2"},
        {"suite": "../sid"},
        {"path": "pool/../../etc/passwd.deb"},
        {"path": "/etc/passwd"},
        {"path": "http://elsewhere/pool/a.deb"},
        {"sha256": "ab"},
        {"sha256": "AB" * 32},
        {"size": 0},
        {"size": 1 << 40},
    ],
)
def test_packages_that_are_none(change: dict[str, object]) -> None:
    with pytest.raises(LockError, match="an entry"):
        Lock.parse(Lock(packages=(msgspec.structs.replace(ONE, **change),), wheels=(H11,)).to_toml())


@pytest.mark.parametrize(
    "change",
    [
        {"file": "h11-0.16.0.tar.gz"},
        {"file": "../h11-0.16.0-py3-none-any.whl"},
        {"file": "h11-0.16.0-py3-none-any..whl"},
        {"file": ""},
        {"sha256": "ab"},
    ],
)
def test_wheels_that_are_none(change: dict[str, str]) -> None:
    with pytest.raises(LockError, match="an entry"):
        Lock.parse(Lock(packages=(ONE,), wheels=(msgspec.structs.replace(H11, **change),)).to_toml())


def test_of_packages_alone() -> None:
    lock = Lock(packages=(ONE, OTHER), wheels=())
    assert lock.to_toml().startswith(b"wheels = []\n\n[[packages]]\n")
    assert Lock.parse(lock.to_toml()) == Lock(packages=(OTHER, ONE), wheels=())
    # That there are none is said, and not left out.
    with pytest.raises(LockError):
        Lock.parse(lock.to_toml().replace(b"wheels = []\n", b""))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"packages = 1",
        b"packages = " + b"[" * 20_000,
        b"\xff",
        b"[[packages]]\nname = 1\n",
        Lock(packages=(ONE,), wheels=(H11,)).to_toml().replace(b"[[wheels]]", b"[[other]]"),
        Lock(packages=(ONE,), wheels=(H11,)).to_toml() + b"more = 1\n",
    ],
)
def test_locks_that_are_none(data: bytes) -> None:
    with pytest.raises(LockError, match="not of its form"):
        Lock.parse(data)


def test_nothing_twice() -> None:
    newer = msgspec.structs.replace(H11, file="H11-0.17.0-py3-none-any.whl")
    for lock in (Lock(packages=(ONE, ONE), wheels=(H11,)), Lock(packages=(ONE,), wheels=(H11, newer))):
        with pytest.raises(LockError, match="twice"):
            Lock.parse(lock.to_toml())
