"""What an image has: the interpreter, and what something needs; nothing else."""

import stat
import sys
from pathlib import Path

import pytest

from image_kit import elf
from sottovoce.image.debs import PackageError
from sottovoce.image.files import File, Files, directory, link, program, regular
from sottovoce.image.userland import PYTHON, SITE, needed, userland

LOADER = "ld-linux-x86-64.so.2"
LIBC: Files = {
    "lib/x86_64-linux-gnu/libc.so.6": regular(elf(LOADER)),
    "lib/x86_64-linux-gnu/libm.so.6": regular(elf("libc.so.6")),
    f"lib/x86_64-linux-gnu/{LOADER}": program(b"loader"),
    f"lib64/{LOADER}": link(f"/lib/x86_64-linux-gnu/{LOADER}"),
    "usr/bin/ldd": program(b"#! /bin/bash"),
    "etc/ld.so.conf": regular(b""),
}
STDLIB: Files = {
    PYTHON: program(elf("libm.so.6", "libc.so.6")),
    "usr/bin/pdb3.11": program(b"#! /usr/bin/python3.11"),
    "usr/lib/python3.11": directory(),
    "usr/lib/python3.11/os.py": regular(b"os"),
    "usr/lib/python3.11/test/test_os.py": regular(b"test"),
    "usr/lib/python3.11/lib-dynload/_ssl.so": regular(elf("libssl.so.3")),
    "usr/lib/python3.11/lib-dynload/_sqlite3.cpython.so": regular(elf("libsqlite3.so.0")),
    "usr/lib/python3.11/sitecustomize.py": link("/etc/python3.11/sitecustomize.py"),
}
SSL: Files = {
    "usr/lib/x86_64-linux-gnu/libssl.so.3": link("libssl.so.3.0.20"),
    "usr/lib/x86_64-linux-gnu/libssl.so.3.0.20": regular(elf("libcrypto.so.3", "libc.so.6")),
    "usr/lib/x86_64-linux-gnu/libcrypto.so.3": regular(elf("libc.so.6")),
    "usr/lib/x86_64-linux-gnu/libother.so.1": regular(elf()),
}
PACKAGES = (LIBC, STDLIB, SSL)


def test_what_is_there_and_nothing_else() -> None:
    found = userland(PACKAGES, {"ours/__init__.py": regular(b"ours")})
    assert set(found) == {
        "bin",
        "lib",
        "lib64",
        PYTHON,
        "usr/lib/python3.11/os.py",
        "usr/lib/python3.11/lib-dynload/_ssl.so",
        SITE + "ours/__init__.py",
        f"usr/lib64/{LOADER}",
        *(
            f"usr/lib/x86_64-linux-gnu/{name}"
            for name in ("libc.so.6", "libm.so.6", "libssl.so.3", "libcrypto.so.3")
        ),
    }
    assert found[f"usr/lib64/{LOADER}"].content == b"loader"
    assert needed(found["usr/lib/x86_64-linux-gnu/libssl.so.3"].content) == ("libcrypto.so.3", "libc.so.6")
    # One program; libraries may be run too, as the loader wants.
    folders = {
        path.rpartition("/")[0]
        for path, file in found.items()
        if stat.S_ISREG(file.mode) and file.mode & 0o111
    }
    assert folders == {"usr/bin", "usr/lib64", "usr/lib/x86_64-linux-gnu"}
    assert all(not file.mode & 0o222 for file in found.values() if stat.S_ISREG(file.mode))


def test_what_our_own_packages_need_is_there_too() -> None:
    found = userland(PACKAGES, {"ours/_native.so": regular(elf("libother.so.1"))})
    assert "usr/lib/x86_64-linux-gnu/libother.so.1" in found


@pytest.mark.parametrize("without", [LIBC, SSL])
def test_a_library_that_is_not_there_ends_the_build(without: Files) -> None:
    with pytest.raises(PackageError, match=r"which something needs"):
        userland([one for one in PACKAGES if one is not without], {})


def test_no_interpreter() -> None:
    with pytest.raises(PackageError, match="interpreter"):
        userland([LIBC, SSL], {})


def test_links_that_lead_nowhere_or_in_circles() -> None:
    for target in ("libssl.so.3", "/etc/shadow", "../../../../x"):
        odd = {**SSL, "usr/lib/x86_64-linux-gnu/libssl.so.3": link(target)}
        with pytest.raises(PackageError, match="libssl"):
            userland([LIBC, STDLIB, odd], {})


def test_what_a_real_program_needs() -> None:
    if sys.platform != "linux":
        pytest.skip("programs here are no ELF files")
    loaded = Path("/proc/self/exe").read_bytes()
    assert any(name.startswith(("libc.so", "libpython")) for name in needed(loaded))


@pytest.mark.parametrize("content", [b"", b"#! /bin/sh", b"text"])
def test_what_is_no_program_needs_nothing(content: bytes) -> None:
    assert needed(content) == ()


@pytest.mark.parametrize("content", [b"\x7fELF", elf("libc.so.6")[:100], b"\x7fELF" + bytes(60)])
def test_a_damaged_program(content: bytes) -> None:
    with pytest.raises(PackageError, match="damaged"):
        needed(content)


def test_a_later_package_replaces_a_file() -> None:
    other = {"usr/lib/python3.11/os.py": File(stat.S_IFREG | 0o644, b"patched")}
    assert userland([*PACKAGES, other], {})["usr/lib/python3.11/os.py"].content == b"patched"
