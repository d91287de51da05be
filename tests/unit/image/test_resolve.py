"""What a lock is made of: the newest of what Debian has signed, and the wheels that fit the image's interpreter."""

import hashlib
import lzma
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import ConfigError, CryptoError, UnavailableError
from sottovoce.image import resolve as module
from sottovoce.image.lock import Lock
from sottovoce.image.resolve import PACKAGES, Version, debian_packages, resolve, wheels_of

ROOT = Path(__file__).parents[3]
INDEX = "main/binary-amd64/Packages.xz"


def stanza(name: str, version: str, **more: str) -> str:
    fields = {"Package": name, "Version": version, "Depends": "", "Filename": f"pool/main/x/{name}_{version}_amd64.deb", "SHA256": "ab" * 32, "Size": "7"}  # fmt: skip
    return "".join(f"{key}: {value}\n" for key, value in (fields | more).items() if value)


class Archive:
    """A mirror with one package of each kind a suite; `signed` is what gpgv makes of an index of the whole."""

    def __init__(self) -> None:
        suites: dict[str, list[str]] = {suite: [] for wanted in PACKAGES.values() for suite in wanted}
        for name, wanted in PACKAGES.items():
            more = (
                {"Depends": "linux-image-6.12.9-cloud-amd64 (= 6.12.9-1)"} if name.startswith("linux") else {}
            )
            suites[wanted[0]].append(stanza(name, "1.0-1", **more))
        suites["trixie"].append(stanza("linux-image-6.12.9-cloud-amd64", "6.12.9-1"))
        self.files: dict[str, bytes] = {}
        for suite, found in suites.items():
            self.publish(suite, found)

    def publish(self, suite: str, stanzas: list[str]) -> None:
        base = ("http://m-security" if suite.endswith("-security") else "http://m") + f"/dists/{suite}"
        packed = lzma.compress("\n".join(stanzas).encode())
        self.files[f"{base}/{INDEX}"] = packed
        release = f"Origin: Debian\nCodename: {suite}\nSHA256:\n {hashlib.sha256(packed).hexdigest()}  {len(packed)} {INDEX}\n"
        self.files[f"{base}/InRelease"] = release.encode()

    def fetch(self, url: str, most: int) -> bytes:
        if url not in self.files:
            raise FileNotFoundError
        assert len(self.files[url]) <= most
        return self.files[url]

    def resolve(self) -> Mapping[str, tuple[str, str]]:
        return {
            one.name: (one.version, one.suite) for one in debian_packages(fetch=self.fetch, mirror="http://m")
        }


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setattr(module, "_signed", lambda data, _: data.decode())
    return Archive()


def test_each_package_and_the_kernel_behind_its_name(archive: Archive) -> None:
    found = archive.resolve()
    assert found["libc6"] == ("1.0-1", "bookworm")
    assert found["linux-image-6.12.9-cloud-amd64"] == ("6.12.9-1", "trixie")
    assert "linux-image-cloud-amd64" not in found
    assert len(found) == len(PACKAGES)


def test_the_newest_of_all_suites(archive: Archive) -> None:
    archive.publish("bookworm-security", [stanza("libc6", "1.0-1+deb12u2"), stanza("zlib1g", "1.0-1~rc1")])
    found = archive.resolve()
    assert found["libc6"] == ("1.0-1+deb12u2", "bookworm-security")
    assert found["zlib1g"] == ("1.0-1", "bookworm")


def test_packages_of_others(archive: Archive) -> None:
    archive.publish("forky", [stanza("tool", "1.0-2"), stanza("tool", "1.0-10")])
    (found,) = debian_packages({"tool": ("forky",)}, fetch=archive.fetch, mirror="http://m")
    assert (found.name, found.version, found.suite) == ("tool", "1.0-10", "forky")


def test_an_index_that_is_not_the_signed_one(archive: Archive) -> None:
    archive.files[f"http://m/dists/sid/{INDEX}"] = lzma.compress(stanza("ovmf-amdsev", "9").encode())
    with pytest.raises(CryptoError, match="has signed"):
        archive.resolve()


def test_another_suite_in_the_place_of_the_one_asked_for(archive: Archive) -> None:
    """Both are signed by Debian; a mirror would so have old packages taken for new ones."""
    security, old = "http://m-security/dists/bookworm-security", "http://m/dists/bookworm"
    for name in (INDEX, "InRelease"):
        archive.files[f"{security}/{name}"] = archive.files[f"{old}/{name}"]
    with pytest.raises(CryptoError, match="not that of bookworm-security"):
        archive.resolve()


def test_no_such_suite_package_or_mirror(archive: Archive) -> None:
    archive.publish("sid", [])
    with pytest.raises(UnavailableError, match="no package ovmf-amdsev"):
        archive.resolve()
    del archive.files[f"http://m/dists/sid/{INDEX}"]
    with pytest.raises(UnavailableError, match="no suite sid"):
        archive.resolve()

    def down(url: str, most: int) -> bytes:
        raise OSError

    with pytest.raises(UnavailableError, match="does not answer"):
        debian_packages(fetch=down)


def test_what_is_not_signed_by_a_key_of_the_ring(tmp_path: Path) -> None:
    """With GnuPG itself: only what a key of the ring has signed is read, and only that of it which is signed."""
    if shutil.which("gpg") is None or shutil.which("gpgv") is None:
        pytest.skip("gpg and gpgv are not here (Debian: apt-get install gpg gpgv)")
    rings = []
    for name in ("ours", "theirs"):
        home = tmp_path / name
        home.mkdir(mode=0o700)
        gpg = [
            "gpg",
            "--homedir",
            str(home),
            "--batch",
            "--quiet",
            "--passphrase",
            "",
            "--pinentry-mode",
            "loopback",
        ]
        subprocess.run(
            [*gpg, "--quick-generate-key", "a@example.org", "ed25519", "sign", "never"], check=True
        )
        ring = tmp_path / f"{name}.gpg"
        ring.write_bytes(subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout)
        signed = subprocess.run(
            [*gpg, "--clearsign"], input=b"SHA256:\n abc\n", check=True, capture_output=True
        ).stdout
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
        rings.append((ring, signed))
    (ring, signed), (other, _) = rings
    assert module._signed(signed, ring) == "SHA256:\n abc\n"
    assert module._signed(signed + b"\nSHA256:\n def\n", ring) == "SHA256:\n abc\n"
    for data, keys in ((signed, other), (signed.replace(b"abc", b"abd"), ring), (b"SHA256:\n abc\n", ring)):
        with pytest.raises(CryptoError, match="not signed"):
            module._signed(data, keys)
    with pytest.raises(ConfigError, match="keys are not here"):
        module._signed(signed, tmp_path / "none.gpg")


def test_the_wheels_of_this_project() -> None:
    found = [one.file for one in wheels_of((ROOT / "uv.lock").read_bytes())]
    names = [one.partition("-")[0] for one in found]
    assert names == sorted(names)
    assert {"cryptography", "msgspec", "h11", "pyopenssl", "cffi"} <= set(names)
    # Neither what a device has nor what a service has.
    assert not {"aiohttp", "click", "rich", "starlette", "uvicorn", "llama_cpp_python"} & set(names)
    assert all("win" not in one and "musl" not in one and "aarch64" not in one for one in found)
    assert any("cp311-abi3" in one or "cp311-cp311" in one for one in found)


def test_a_whole_lock_can_be_read_back(archive: Archive) -> None:
    lock = resolve((ROOT / "uv.lock").read_bytes(), fetch=archive.fetch, mirror="http://m")
    assert Lock.parse(lock.to_toml()).to_toml() == lock.to_toml()


@pytest.mark.parametrize("project", [b"", b"\xff", b"package = 1", b"[[package]]\nname = 'h11'\n"])
def test_what_is_no_lock_of_a_project(project: bytes) -> None:
    with pytest.raises(ConfigError):
        wheels_of(project)


ORDER = ["0~rc1", "0", "0a", "0+b", "1.0~~", "1.0~", "1.0", "1.0-1", "1.0-1+deb12u2", "1.0-1+deb12u10", "1.0-2", "1.0.1", "1.10", "1:0.1", "2:0"]  # fmt: skip


def test_the_order_of_versions() -> None:
    assert sorted(set(ORDER), key=Version) == ORDER
    assert Version("1.0") == Version("0:1.0") == Version("1.00")
    assert hash(Version("1.0")) == hash(Version("1.00"))


@given(
    st.lists(
        st.text("019.+~ab-", min_size=1, max_size=6).map(lambda text: "1" + text), min_size=2, max_size=2
    )
)
def test_the_order_that_dpkg_has(texts: list[str]) -> None:
    if shutil.which("dpkg") is None:
        pytest.skip("dpkg is not here")
    one, other = texts
    if one.endswith("-") or other.endswith("-"):
        return
    lower = subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False, capture_output=True)
    assert (lower.returncode == 0) == (Version(one) < Version(other))
