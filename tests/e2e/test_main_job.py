"""The main job as a person does it: the command line, a process a command, every party a process of its own."""

import shutil
from pathlib import Path

import pytest

from e2e.conftest import CHATS, Device, nobody_connects
from sottovoce.attest.rules import session_rules
from sottovoce.attest.simulated import SIMULATED_KIND
from sottovoce.device.reports import ReportStore, decode_export

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def test_a_summary_quotes_what_was_written_and_names_the_messages(device: Device) -> None:
    done = device.run("summarize", str(CHATS / "book-club.txt"), "--unread", "40")
    assert done.returncode == 0, done.stderr
    written = (CHATS / "book-club.txt").read_text()
    quotes = [line.partition("• ")[2] for line in done.stdout.splitlines() if "• " in line]
    assert len(quotes) >= 3
    for quote in quotes:
        sender, _, rest = quote.partition(": ")
        text, _, cited = rest.rpartition("  [")
        assert sender in written
        assert text.rstrip("…") in written.replace("\n", " ")
        assert cited.endswith("]")
    assert "SIMULATED HARDWARE" in done.stdout


def test_an_ios_export_works_too(device: Device) -> None:
    done = device.run("summarize", str(CHATS / "football-team.zip"), "-v")
    assert done.returncode == 0, done.stderr
    assert "• " in done.stdout


def test_rewrites_differ_from_the_draft_and_from_each_other(device: Device) -> None:
    done = device.run(
        "rewrite", "--style", "proofread", "-", give="i cant come on monday, can we do tuesday\n"
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.strip()[:2] in {"1.", "2.", "3."}]
    assert lines
    assert len(set(lines)) == len(lines)


def test_every_check_is_shown_and_reported(device: Device) -> None:
    done = device.run("summarize", str(CHATS / "book-club.txt"), "--unread", "10", "--verbose")
    assert done.returncode == 0, done.stderr
    for title in (rule.title for rule in session_rules(SIMULATED_KIND).values()):
        assert title in done.stdout
    (report,) = ReportStore(device.home).list()
    assert report.outcome == "done"
    assert {line.id for line in report.verdict} == set(session_rules(SIMULATED_KIND))
    assert {line.status for line in report.verdict} == {"pass"}
    assert report.simulated
    assert report.message_count == len(report.messages) > 0
    assert report.relay.startswith("simulated relay")


def test_an_export_holds_no_message_id_and_no_word_of_the_chat(device: Device, tmp_path: Path) -> None:
    assert device.run("summarize", str(CHATS / "book-club.txt"), "--unread", "10").returncode == 0
    assert device.run("report", "export", str(tmp_path / "out.json")).returncode == 0
    data = (tmp_path / "out.json").read_bytes()
    (report,) = decode_export(data)
    assert report.messages == ()
    assert report.evidence
    senders = {line.split(" - ")[1].split(":")[0] for line in _lines() if line.count(" - ") == 1}
    assert not [name for name in senders if name.encode() in data]


def _lines() -> list[str]:
    return [line for line in (CHATS / "book-club.txt").read_text().splitlines() if ": " in line]


def test_not_opted_in_is_refused_before_anything_is_connected(fresh: Device) -> None:
    with nobody_connects(fresh):
        done = fresh.run("summarize", str(CHATS / "book-club.txt"))
    assert done.returncode == 3
    assert "private processing is off" in done.stderr
    assert not (fresh.home / "wallet.sqlite").exists()
    assert ReportStore(fresh.home).list() == ()


def test_a_private_chat_is_refused_before_anything_is_connected(device: Device, tmp_path: Path) -> None:
    chat = Path(shutil.copy(CHATS / "book-club.txt", tmp_path / "WhatsApp Chat with Book club.txt"))
    assert device.run("settings", "private", str(chat)).returncode == 0
    before = device.run("wallet", "show").stdout
    with nobody_connects(device):
        done = device.run("summarize", str(chat))
    assert done.returncode == 4
    assert device.run("wallet", "show").stdout == before
    assert device.run("settings", "allow", str(chat)).returncode == 0
    assert device.run("summarize", str(chat), "--unread", "5").returncode == 0


def test_the_listener_of_the_two_tests_above_would_notice(device: Device) -> None:
    with pytest.raises(pytest.fail.Exception), nobody_connects(device):
        device.run("summarize", str(CHATS / "book-club.txt"))


def test_one_request_spends_one_token(device: Device) -> None:
    before = device.ready()
    assert device.run("rewrite", "Can we meet at nine?").returncode == 0
    assert device.ready() == before - 1
