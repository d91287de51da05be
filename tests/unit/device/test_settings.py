import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_kit import no_file_above
from sottovoce.core.errors import ConfigError, RefusedError
from sottovoce.device.files import DiskError
from sottovoce.device.settings import (
    CONSENT_VERSION,
    ChatIsPrivate,
    NotEnabled,
    OptIn,
    Settings,
    SettingsCorrupt,
    SettingsStore,
    same_chat,
)

NOW = 1_790_000_000
CHAT = "a" * 32 + "-" + "b" * 32


@pytest.fixture
def store(tmp_path: Path) -> SettingsStore:
    return SettingsStore(tmp_path / "home")


def test_off_by_default(store: SettingsStore, tmp_path: Path) -> None:
    assert store.load() == Settings()
    with pytest.raises(NotEnabled) as caught:
        store.require_enabled()
    assert isinstance(caught.value, RefusedError)
    assert caught.value.code == "refused.not-enabled"
    assert "sottovoce settings enable" in caught.value.hint
    store.require_allowed(CHAT)
    assert not (tmp_path / "home").exists()


def test_enable_and_disable(store: SettingsStore, tmp_path: Path) -> None:
    store.enable(now=NOW)
    store.require_enabled()
    assert store.load().enabled == OptIn(since=NOW, text_version=CONSENT_VERSION)
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "home/settings.json").stat().st_mode & 0o777 == 0o600
    store.disable()
    with pytest.raises(NotEnabled):
        store.require_enabled()


def test_agreeing_to_an_older_text_is_not_enough(store: SettingsStore) -> None:
    store.enable(now=NOW, text_version=CONSENT_VERSION - 1)
    with pytest.raises(NotEnabled, match="changed"):
        store.require_enabled()


def test_private_chats(store: SettingsStore) -> None:
    store.enable(now=NOW)
    store.mark_private(CHAT, title="Canary", now=NOW)
    store.mark_private(CHAT, title="Canary", now=NOW + 1)
    assert len(store.load().private) == 1
    with pytest.raises(ChatIsPrivate) as caught:
        store.require_allowed(CHAT)
    assert isinstance(caught.value, RefusedError)
    assert caught.value.code == "refused.chat-private"
    assert "sottovoce settings allow" in caught.value.hint
    assert "Canary" not in f"{caught.value}{caught.value.hint}{store.load()!r}"
    store.require_allowed("c" * 32 + "-" + "d" * 32)
    store.require_enabled()
    assert store.allow(CHAT)
    assert not store.allow(CHAT)
    store.require_allowed(CHAT)


@pytest.mark.parametrize("other", ["a" * 32 + "-" + "c" * 32, "c" * 32 + "-" + "b" * 32])
def test_either_part_of_the_id_is_enough(store: SettingsStore, other: str) -> None:
    store.mark_private(CHAT, title="", now=NOW)
    assert same_chat(CHAT, other)
    with pytest.raises(ChatIsPrivate):
        store.require_allowed(other)
    store.disable()
    with pytest.raises(ChatIsPrivate):
        store.require_allowed(other)
    assert store.allow(other)


GOOD = b'{"enabled":{"since":1,"text_version":1},"private":[],"version":1}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        GOOD[:-1],
        GOOD + b"\n",
        GOOD.replace(b'"version":1', b'"version":2'),
        GOOD.replace(b'"private":[],', b""),
        GOOD.replace(b'"private":[]', b'"private":null'),
        GOOD.replace(b'"enabled"', b'"admin":1,"enabled"'),
        GOOD.replace(b'"since":1', b'"since":"1"'),
        GOOD.replace(b'{"since":1,"text_version":1}', b"true"),
        GOOD.replace(b"1", b"1.5", 1),
        b"[" * 100_000,
        bytes(5 * 1024 * 1024),
    ],
)
def test_a_damaged_file_means_off_and_stays_as_it_is(
    store: SettingsStore, tmp_path: Path, data: bytes
) -> None:
    store.enable(now=NOW)
    path = tmp_path / "home/settings.json"
    path.write_bytes(data)
    for action in (
        store.load,
        store.require_enabled,
        lambda: store.require_allowed(CHAT),
        lambda: store.enable(now=NOW),
        store.disable,
        lambda: store.mark_private(CHAT, title="", now=NOW),
        lambda: store.allow(CHAT),
    ):
        with pytest.raises(SettingsCorrupt) as caught:
            action()
        assert isinstance(caught.value, ConfigError)
        assert str(path) in caught.value.hint
    assert path.read_bytes() == data


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_change_is_not_believed(
    store: SettingsStore, tmp_path: Path, mode: int
) -> None:
    store.enable(now=NOW)
    (tmp_path / "home/settings.json").chmod(mode)
    with pytest.raises(SettingsCorrupt, match="other users"):
        store.require_enabled()


def test_a_file_of_somebody_else_is_not_believed(
    store: SettingsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.enable(now=NOW)
    monkeypatch.setattr("os.geteuid", lambda: 4242)
    with pytest.raises(SettingsCorrupt, match="other users"):
        store.require_enabled()


def test_a_directory_in_its_place(store: SettingsStore, tmp_path: Path) -> None:
    (tmp_path / "home/settings.json").mkdir(parents=True)
    with pytest.raises(SettingsCorrupt, match="read"):
        store.require_enabled()


def test_a_full_disk_keeps_the_old_settings(store: SettingsStore) -> None:
    store.enable(now=NOW)
    with no_file_above(10), pytest.raises(DiskError):
        store.mark_private(CHAT, title="", now=NOW)
    store.require_enabled()


def test_no_mark_is_lost_when_two_commands_run_at_once(store: SettingsStore) -> None:
    def mark(digit: str) -> None:
        for number in range(10):
            store.mark_private(f"{digit}{number}-{digit}x{number}", title="", now=NOW)

    threads = [threading.Thread(target=mark, args=(digit,)) for digit in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.load().private) == 40


@given(st.binary(max_size=120))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / "settings.json").write_bytes(data)
    with pytest.raises(SettingsCorrupt):
        SettingsStore(home).require_enabled()
