"""Kept chats: what is on the disk is nothing without the key."""

import stat
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest

from app_kit import EXPORT
from device_kit import no_file_above
from sottovoce.app import vault as module
from sottovoce.app.shelf import Kept, Saved, Shelf
from sottovoce.app.vault import KeyringUnusable, Vault, VaultCorrupt, WrongPassphrase
from sottovoce.core.errors import RefusedError, UsageError
from sottovoce.device.chats import import_chat
from sottovoce.device.files import DiskError

PASSPHRASE = "correct horse battery"


class Ring(keyring.backend.KeyringBackend):
    """A keyring in memory, as the system's is elsewhere."""

    priority = 1.0

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.held.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.held[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.held.pop((service, username), None) is None:
            raise keyring.errors.PasswordDeleteError


@pytest.fixture
def ring() -> Iterator[Ring]:
    before = keyring.get_keyring()
    ring = Ring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


def shelf() -> Shelf:
    shelf = Shelf()
    chat = shelf.add(import_chat(EXPORT.encode(), name="Party.txt"))
    chat.move_marker("3")
    chat.reader = "Ben"
    chat.saved.append(Saved(time=5, report="ab", lines=[("Ada: Friday", ["2"])]))
    other = shelf.add(import_chat(EXPORT.replace("Hello", "Hi").encode(), name="Other.txt"))
    lines = [("Ada: Friday", ["1:2"]), ("Ben: Saturday", ["2:3"])]
    shelf.recaps.append(Saved(time=6, report="cd", lines=lines, chats=(chat.id, other.id)))
    return shelf


def reopened(vault: Vault) -> Vault:
    """As the next start of the app finds it."""
    vault.close()
    assert not vault.is_open
    return Vault(vault._home)


def test_two_programs_do_not_keep_at_once(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.create(PASSPHRASE)
    vault.write(shelf().kept())
    other = Vault(tmp_path)
    for ask in (lambda: other.open(PASSPHRASE), other.delete):
        with pytest.raises(RefusedError, match="another program"):
            ask()
    vault.close()
    assert len(other.open(PASSPHRASE).kept.chats) == 2
    with pytest.raises(RefusedError, match="another program"):
        vault.open(PASSPHRASE)


def test_a_keyring_that_keeps_nothing(tmp_path: Path, ring: Ring) -> None:
    class Forgetful(Ring):
        def get_password(self, service: str, username: str) -> str | None:
            return None

    class Open(Ring):
        priority = 0.5

    for backend in (Forgetful(), Open()):
        keyring.set_keyring(backend)
        vault = Vault(tmp_path)
        with pytest.raises(KeyringUnusable):
            vault.create(None)
        assert not vault.is_open
        vault.close()


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.create(PASSPHRASE)
    vault.write(shelf().kept())
    path = tmp_path / "chats.vault"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = reopened(vault).open(PASSPHRASE).kept
    found = {one.title: one for one in kept.chats}
    (recap,) = kept.recaps
    assert recap.chats == (found["Party"].id, found["Other"].id)
    assert recap.lines[1] == ("Ben: Saturday", ["2:3"])
    assert set(found) == {"Party", "Other"}
    party = found["Party"]
    assert (party.unread, party.reader, party.first_unread()) == (2, "Ben", 2)
    assert party.saved[0].lines == [("Ada: Friday", ["2"])]
    original = next(one for one in shelf() if one.title == "Party")
    assert party.chat == original.chat
    assert party.mark == original.mark


def test_the_file_shows_nothing(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.create(PASSPHRASE)
    vault.write(shelf().kept())
    first = (tmp_path / "chats.vault").read_bytes()
    for word in (b"Ada", b"Friday", b"Party", PASSPHRASE.encode()):
        assert word not in first
    # The same chats written again look different.
    vault.write(shelf().kept())
    assert (tmp_path / "chats.vault").read_bytes()[-100:] != first[-100:]


def test_another_passphrase(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.create(PASSPHRASE)
    vault.write(shelf().kept())
    other = reopened(vault)
    with pytest.raises(WrongPassphrase):
        other.open(PASSPHRASE + "!")
    assert not other.is_open
    with pytest.raises(UsageError, match="need their passphrase"):
        other.open(None)
    with pytest.raises(UsageError, match="not open"):
        other.write(Kept(chats=()))
    opened = other.open(PASSPHRASE)
    assert len(opened.kept.chats) == 2
    other.hold(opened)
    assert other.is_open


@pytest.mark.parametrize("at", [0, 12, -1, -40])
def test_a_changed_byte(tmp_path: Path, at: int) -> None:
    vault = Vault(tmp_path)
    vault.create(PASSPHRASE)
    vault.write(shelf().kept())
    path = tmp_path / "chats.vault"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises((WrongPassphrase, VaultCorrupt)):
        reopened(vault).open(PASSPHRASE)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("old", "new"), [(b'"version":2', b'"version":3'), (b"sottovoce-chats", b"sottovoce-other")]
)
def test_a_vault_of_another_version_is_left_alone(tmp_path: Path, old: bytes, new: bytes) -> None:
    vault = Vault(tmp_path)
    vault.create(PASSPHRASE)
    vault.write(shelf().kept())
    path = tmp_path / "chats.vault"
    changed = path.read_bytes().replace(old, new, 1)
    assert new in changed
    path.write_bytes(changed)
    # Not "wrong passphrase": whoever reads that would try again for ever.
    with pytest.raises(VaultCorrupt):
        reopened(vault).open(PASSPHRASE)
    assert path.read_bytes() == changed


@pytest.mark.parametrize("data", [b"", b"{}\n", b"x" * 2000, b'{"format":"sottovoce-chats","key":"passphrase","salt":"00","version":1}\n' + bytes(60)])  # fmt: skip
def test_what_is_no_vault(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "chats.vault").write_bytes(data)
    with pytest.raises(VaultCorrupt):
        Vault(tmp_path).open(PASSPHRASE)


def test_a_short_passphrase_and_a_second_vault(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    with pytest.raises(UsageError, match="at least 8"):
        vault.create("1234567")
    assert not vault.is_open
    vault.create(PASSPHRASE)
    vault.write(shelf().kept())
    with pytest.raises(UsageError, match="kept already"):
        Vault(tmp_path).create("another passphrase")


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.create(PASSPHRASE)
    vault.write(shelf().kept())
    with no_file_above(10), pytest.raises(DiskError):
        vault.write(Kept(chats=()))
    assert len(reopened(vault).open(PASSPHRASE).kept.chats) == 2


def test_more_than_can_be_kept_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = Vault(tmp_path)
    vault.create(PASSPHRASE)
    vault.write(shelf().kept())
    before = (tmp_path / "chats.vault").read_bytes()
    monkeypatch.setattr(module, "_LIMIT", 200)
    with pytest.raises(UsageError, match="more than can be kept"):
        vault.write(shelf().kept())
    assert (tmp_path / "chats.vault").read_bytes() == before


def test_no_repr_shows_a_word() -> None:
    for one in shelf():
        kept = module._kept(one)
        for value in (kept, *kept.messages, *kept.saved, one, *one.saved, shelf().kept()):
            assert not any(word in repr(value) for word in ("Ada", "Friday", "Party", "Ben"))


def test_a_key_in_the_keyring(tmp_path: Path, ring: Ring) -> None:
    vault = Vault(tmp_path)
    vault.create(None)
    vault.write(shelf().kept())
    other = reopened(vault)
    assert other.by_keyring
    assert len(other.open(None).kept.chats) == 2
    (key,) = ring.held.values()
    assert bytes.fromhex(key) not in (tmp_path / "chats.vault").read_bytes()
    ring.held.clear()
    with pytest.raises(KeyringUnusable):
        other.open(None)


def test_deleting_takes_the_key_with_it(tmp_path: Path, ring: Ring) -> None:
    vault = Vault(tmp_path)
    vault.create(None)
    vault.write(shelf().kept())
    vault.delete()
    assert not ring.held
    assert not (tmp_path / "chats.vault").exists()
    assert not vault.is_open


class Broken(Ring):
    """A keyring that is locked, or not there."""

    def get_password(self, service: str, username: str) -> str | None:
        raise keyring.errors.KeyringLocked

    def set_password(self, service: str, username: str, password: str) -> None:
        raise keyring.errors.NoKeyringError


def test_no_keyring(tmp_path: Path, ring: Ring) -> None:
    kept = Vault(tmp_path / "kept")
    kept.create(None)
    kept.write(shelf().kept())
    keyring.set_keyring(Broken())
    vault = Vault(tmp_path / "new")
    with pytest.raises(KeyringUnusable, match="keyring"):
        vault.create(None)
    assert not vault.exists
    assert not vault.is_open
    with pytest.raises(KeyringUnusable, match="keyring"):
        reopened(kept).open(None)
