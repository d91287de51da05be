"""The hash tree of a volume, against cryptsetup's own program where it is installed and against roots that it gave."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from sottovoce.core.errors import ConfigError
from sottovoce.image.verity import measure, write
from sottovoce.tee.volume import BLOCK, table


def content(size: int) -> bytes:
    """Bytes that do not repeat."""
    return b"".join(hashlib.sha256(at.to_bytes(4)).digest() for at in range(-(-size // 32)))[:size]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


SIZES = [1, BLOCK, BLOCK + 1, 128 * BLOCK, 128 * BLOCK + 1, 128 * 128 * BLOCK + 5]
"""One block, two, a full block of hashes, one more, a tree of three levels."""


@pytest.mark.parametrize("size", SIZES)
def test_the_kernels_own_tool_verifies_it(source: Path, tmp_path: Path, size: int) -> None:
    tool = shutil.which("veritysetup", path="/usr/sbin:/sbin:/usr/bin")
    if tool is None:
        pytest.skip("veritysetup (of the package cryptsetup-bin) is not installed")
    source.write_bytes(content(size))
    volume = write(source, "model", tmp_path / "volume")
    data, tree = tmp_path / "data", tmp_path / "tree"
    whole = (tmp_path / "volume").read_bytes()
    data.write_bytes(whole[: volume.blocks * BLOCK])
    words = ["--no-superblock", "--salt=-", f"--data-block-size={BLOCK}", f"--hash-block-size={BLOCK}"]
    said = subprocess.run([tool, "format", *words, data, tree], capture_output=True, check=True).stdout
    assert f"Root hash:      \t{volume.root}".encode() in said
    assert tree.read_bytes() == whole[volume.blocks * BLOCK :]
    # And the one file, as the kernel gets it.
    at = f"--hash-offset={volume.blocks * BLOCK}"
    one = str(tmp_path / "volume")
    count = f"--data-blocks={volume.blocks}"
    subprocess.run([tool, "verify", *words, at, count, one, one, volume.root], check=True)


@pytest.mark.parametrize(
    ("size", "root"),
    [
        (1, "ac4b44f52493db2a8b8c3c17130779c6a98d9c755d952fc3ec7645a0ae10a945"),
        (128 * BLOCK + 1, "9cd6a75b0d1196946b1dcfd565a1edd9b9872b417ae360464c3a476d660076d6"),
    ],
)
def test_roots_that_veritysetup_gave(source: Path, size: int, root: str) -> None:
    source.write_bytes(content(size))
    assert measure(source, "model").root == root


def test_measured_as_it_is_written_and_the_same_twice(source: Path, tmp_path: Path) -> None:
    source.write_bytes(content(300_000))
    first, second = tmp_path / "first", tmp_path / "second"
    assert write(source, "m", first) == write(source, "m", second) == measure(source, "m")
    assert first.read_bytes() == second.read_bytes()


def test_one_bit_is_another_root(source: Path) -> None:
    data = bytearray(content(300_000))
    source.write_bytes(data)
    before = measure(source, "m")
    data[150_000] ^= 1
    source.write_bytes(data)
    assert measure(source, "m").root != before.root


def test_what_the_kernel_is_told(source: Path) -> None:
    source.write_bytes(content(2 * BLOCK + 1))
    volume = measure(source, "m")
    assert table(volume, "254:0") == (24, f"1 254:0 254:0 4096 4096 3 3 sha256 {volume.root} -")


@pytest.mark.parametrize("data", [None, b""])
def test_no_file(source: Path, data: bytes | None) -> None:
    if data is not None:
        source.write_bytes(data)
    with pytest.raises(ConfigError):
        measure(source, "m")
