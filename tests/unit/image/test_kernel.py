"""Modules come after what they need, and only those that are asked for."""

import lzma

import pytest

from image_kit import kernel_config
from sottovoce.core.errors import UsageError
from sottovoce.image.debs import PackageError
from sottovoce.image.files import File, regular
from sottovoce.image.kernel import Kernel

BASE = "usr/lib/modules/6.12.1-cloud"


def module(needs: str) -> File:
    return regular(lzma.compress(b"\x7fELF\0license=GPL\0depends=" + needs.encode() + b"\0vermagic=6.12\0"))


def files() -> dict[str, File]:
    return {
        "boot/vmlinuz-6.12.1-cloud": regular(b"kernel"),
        "boot/config-6.12.1-cloud": kernel_config(),
        f"{BASE}/modules.builtin": regular(b"kernel/fs/ext4/ext4.ko\nkernel/drivers/char/tpm/tpm-crb.ko\n"),
        f"{BASE}/kernel/fs/erofs/erofs.ko.xz": module("libcrc32c,ext4"),
        f"{BASE}/kernel/lib/libcrc32c.ko.xz": module(""),
        f"{BASE}/kernel/drivers/md/dm-mod.ko.xz": module(""),
        f"{BASE}/kernel/drivers/md/dm-bufio.ko.xz": module("dm-mod"),
        f"{BASE}/kernel/drivers/md/dm-verity.ko.xz": module("dm-mod,dm-bufio,libcrc32c"),
    }


def names(kernel: Kernel, *wanted: str) -> list[str]:
    return [one.name for one in kernel.load(wanted)]


def test_what_is_needed_comes_first() -> None:
    kernel = Kernel.of(files())
    assert (kernel.release, kernel.image) == ("6.12.1-cloud", b"kernel")
    assert names(kernel, "dm-verity") == ["dm_mod", "dm_bufio", "libcrc32c", "dm_verity"]
    assert names(kernel, "erofs", "dm_verity") == ["libcrc32c", "erofs", "dm_mod", "dm_bufio", "dm_verity"]
    assert names(kernel, "ext4", "tpm_crb") == []
    assert kernel.load(["erofs"])[1].content.startswith(b"\x7fELF")
    assert "GPL" not in repr(kernel.load(["erofs"]))


def test_no_such_module() -> None:
    with pytest.raises(UsageError, match="no module nvme"):
        Kernel.of(files()).load(["nvme"])
    missing = files() | {f"{BASE}/kernel/a.ko.xz": module("b")}
    with pytest.raises(UsageError, match="no module b"):
        Kernel.of(missing).load(["a"])


def test_two_that_need_each_other() -> None:
    circle = files() | {f"{BASE}/kernel/a.ko.xz": module("b"), f"{BASE}/kernel/b.ko.xz": module("a")}
    with pytest.raises(UsageError, match="needs itself"):
        Kernel.of(circle).load(["a"])


def test_a_package_without_a_kernel_and_one_with_two() -> None:
    for found in ({}, files() | {"boot/vmlinuz-6.12.2": regular(b"")}):
        with pytest.raises(PackageError, match="one kernel"):
            Kernel.of(found)


@pytest.mark.parametrize("missing", ["DM_VERITY", "STRICT_DEVMEM", "MITIGATION_SRSO"])
def test_a_kernel_that_lacks_what_an_image_stands_on(missing: str) -> None:
    where = "boot/config-6.12.1-cloud"
    said = f"# CONFIG_{missing} is not set\n".encode()
    lacking = regular(files()[where].content.replace(f"CONFIG_{missing}=y\n".encode(), said))
    with pytest.raises(PackageError, match=f"without {missing}$"):
        Kernel.of(files() | {where: lacking})
    with pytest.raises(PackageError, match=r"without AMD_MEM_ENCRYPT, "):
        Kernel.of({path: file for path, file in files().items() if path != where})


@pytest.mark.parametrize("content", [b"", b"no xz", lzma.compress(b"\x7fELF")[:-5]])
def test_a_module_that_is_damaged(content: bytes) -> None:
    damaged = files() | {f"{BASE}/kernel/a.ko.xz": regular(content)}
    with pytest.raises(PackageError, match="unpacked"):
        Kernel.of(damaged).load(["a"])
