from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sottovoce.cli.main import cli
from sottovoce.device.chats import ChatError
from sottovoce.device.settings import CONSENT_TEXT, ChatIsPrivate, NotEnabled, SettingsCorrupt, SettingsStore

TEXT = "20/11/2026, 18:03 - Anna: hi"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    path = tmp_path / "WhatsApp Chat with Anna.txt"
    path.write_text(TEXT)
    return path


def run(home: Path, *arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(cli, ["--home", str(home), "settings", *arguments], input=answer)


def test_enable_says_what_it_means_and_asks(home: Path) -> None:
    result = run(home, "enable", answer="\n")
    assert (result.exit_code, CONSENT_TEXT in result.output, "It stays off" in result.output) == (
        0,
        True,
        True,
    )
    with pytest.raises(NotEnabled):
        SettingsStore(home).require_enabled()
    result = run(home, "enable", answer="y\n")
    assert result.exit_code == 0
    SettingsStore(home).require_enabled()


def test_enable_without_an_answer_stays_off(home: Path) -> None:
    assert run(home, "enable").exit_code == 1
    with pytest.raises(NotEnabled):
        SettingsStore(home).require_enabled()


def test_yes_and_disable(home: Path) -> None:
    assert CONSENT_TEXT in run(home, "enable", "--yes").output
    assert "is on since" in run(home, "show").output
    run(home, "disable")
    assert "is off" in run(home, "show").output


def test_private_and_allow(home: Path, chat: Path) -> None:
    assert "“Anna” is private" in run(home, "private", str(chat)).output
    assert "Anna" in run(home, "show").output
    mark = SettingsStore(home).load().private[0]
    with pytest.raises(ChatIsPrivate):
        SettingsStore(home).require_allowed(mark.chat)
    chat.write_text(TEXT + "\n20/11/2026, 18:04 - Ben: later")
    renamed = chat.rename(chat.with_name("x.txt"))
    assert "no longer private" in run(home, "allow", str(renamed)).output
    assert "was not marked" in run(home, "allow", str(renamed)).output
    assert "No chat is marked" in run(home, "show").output


def test_a_title_cannot_draw_on_the_terminal(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "[red]x\x1b[31m.txt"
    path.write_text(TEXT)
    run(home, "private", str(path))
    output = run(home, "show").output
    assert "[red]x[31m" in output
    assert "\x1b" not in output


def test_errors_reach_the_caller(home: Path, tmp_path: Path) -> None:
    result = run(home, "private", str(tmp_path / "none.txt"))
    assert isinstance(result.exception, ChatError)
    home.mkdir(exist_ok=True)
    (home / "settings.json").write_text("{}")
    for command in ("enable", "disable", "show"):
        assert isinstance(run(home, command, answer="y\n").exception, SettingsCorrupt)
