"""What the app's addresses do, in process: settings, chats, requests, reports."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from app_kit import EXPORT, FAILED, REPORT, STEPS, SUGGESTIONS, SUMMARY, Browser
from device_kit import report
from sottovoce.app.asking import differences
from sottovoce.app.shelf import Kept
from sottovoce.app.vault import Vault
from sottovoce.attest.verdict import Verdict, VerificationRefused
from sottovoce.core.errors import UnavailableError
from sottovoce.device.answers import Line, ServiceError
from sottovoce.device.chats import import_chat
from sottovoce.device.client import Client, NotKept
from sottovoce.device.reports import ReportNotWritten, ReportStore
from sottovoce.device.settings import CONSENT_TEXT, CONSENT_VERSION, ChatIsPrivate, SettingsStore


def run(home: Path, test: Callable[[Browser], Coroutine[Any, Any, None]], *, enabled: bool = True) -> None:
    async def whole() -> None:
        await test(await Browser(home, enabled=enabled).open())

    asyncio.run(whole())


def names(events: list[dict[str, Any]]) -> list[str]:
    return [one["event"] for one in events]


def on_the_disk(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_off_by_default_and_on_after_the_page_was_read(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        page = await browser.get("settings")
        assert "Private processing is off" in page
        # All of what is agreed to, as the command line shows it, each sentence in one piece.
        shown = " ".join(re.sub(r"<[^>]*>", " ", page).split())
        for block in re.split(r"\n\n(?: *- )?|\n *- ", CONSENT_TEXT):
            assert " ".join(block.split()) in shown
        assert page.count("<li>") >= CONSENT_TEXT.count("  - ")
        assert "simulated" in page
        asking = await browser.post("ask/summary", {"chats": [chat]})
        failed = (await browser.events(asking["id"]))[0]
        assert failed["code"] == "refused.not-enabled"
        assert failed["sent"].startswith("Nothing was sent")
        assert "Settings" in failed["hint"]
        assert (await browser.post("settings/enable", {"version": "0"}, status=400))["what"]
        assert browser.client.asked == []
        await browser.post("settings/enable", {"version": str(CONSENT_VERSION)})
        assert "Private processing is on" in await browser.get("settings")
        asking = await browser.post("ask/summary", {"chats": [chat]})
        assert "line" in names(await browser.events(asking["id"]))

    run(tmp_path, test, enabled=False)


def test_a_summary_of_what_is_unread(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        await browser.post(f"chats/{chat}/marker", {"message": "2"})
        await browser.post(f"chats/{chat}/reader", {"name": "Ben"})
        asking = (await browser.post("ask/summary", {"chats": [chat], "quick": True}))["id"]
        events = await browser.events(asking)
        assert browser.client.asked == [{"messages": ("2", "3", "4"), "readers": ["Ben"], "quick": True}]
        assert names(events)[-2:] == ["kept", "end"]
        assert events[names(events).index("attested")]["passed"] == 1
        line = events[names(events).index("line")]
        assert (line["sender"], line["text"], line["messages"]) == ("Ada", "Friday at eight", ["2"])
        # A second tab, or a page that is loaded again, gets all of it; one that was cut off, the rest.
        assert await browser.events(asking) == events
        assert await browser.events(asking, since=3) == events[4:]
        page = await browser.get(f"chats/{chat}")
        assert f'data-asking="{asking}"' in page
        await browser.post(f"ask/{asking}/close")
        assert f'data-asking="{asking}"' not in await browser.get(f"chats/{chat}")
        assert (await browser.raw("GET", f"ask/{asking}/events", sec_fetch_site="same-origin")).status == 400

    run(tmp_path, test)


def test_several_chats_each_with_its_own_marker_and_reader(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        one = await browser.add()
        other = await browser.add(EXPORT.replace("Hello", "Hi"), "WhatsApp Chat with Work.txt")
        await browser.post(f"chats/{one}/marker", {"message": "4"})
        await browser.post(f"chats/{other}/reader", {"name": "Ada"})
        asking = (await browser.post("ask/summary", {"chats": [one, other]}))["id"]
        await browser.events(asking)
        assert browser.client.asked[0]["messages"] == ("1:4", "2:1", "2:2", "2:3", "2:4")
        assert browser.client.asked[0]["readers"] == ["", "Ada"]
        assert f'data-chats="{one} {other}"' in await browser.get()

    run(tmp_path, test)


def test_nothing_unread(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        await browser.post(f"chats/{chat}/marker", {"message": ""})
        assert (
            "nothing is unread"
            in (await browser.post("ask/summary", {"chats": [chat]}, status=400))["what"].lower()
        )
        await browser.post("ask/summary", {"chats": []}, status=400)
        await browser.post("ask/summary", {"chats": ["none"]}, status=404)
        assert browser.client.asked == []

    run(tmp_path, test)


def test_a_private_chat_is_refused_everywhere(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        browser.client.waits = asyncio.Event()
        running = (await browser.post("ask/summary", {"chats": [chat]}))["id"]
        await asyncio.sleep(0)
        await browser.post(f"chats/{chat}/private", {"on": "yes"})
        # What ran about it has ended.
        assert names(await browser.events(running))[-2:] == ["cancelled", "end"]
        page = await browser.get(f"chats/{chat}")
        assert "Advanced Chat Privacy</span>" in page
        assert 'id="summarise"' not in page
        refused = (await browser.post("ask/summary", {"chats": [chat]}))["id"]
        assert (await browser.events(refused))[0]["code"] == "refused.chat-private"
        draft = {"chat": chat, "draft": "hello", "style": "rephrase"}
        assert (await browser.post("ask/rewrite", draft, status=400))["code"] == "refused.chat-private"
        # The same file keeps the library and the command line from it.
        library = Client(browser.home)
        with pytest.raises(ChatIsPrivate):
            async for _ in library.summarize(import_chat(EXPORT.encode(), name="Renamed.txt")):
                pass
        await browser.post(f"chats/{chat}/private", {"on": ""})
        assert SettingsStore(browser.home).load().private == ()
        assert 'id="summarise"' in await browser.get(f"chats/{chat}")

    run(tmp_path, test)


def test_turning_it_off_ends_what_runs(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        browser.client.waits = asyncio.Event()
        running = (await browser.post("ask/summary", {"chats": [chat]}))["id"]
        await asyncio.sleep(0)
        await browser.post("settings/disable")
        assert browser.client.cancelled == 1
        assert names(await browser.events(running))[-2:] == ["cancelled", "end"]

    run(tmp_path, test)


def test_two_that_run_end_together(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        one, other = (
            await browser.add(),
            await browser.add(EXPORT.replace("Hello", "Hi"), "WhatsApp Chat with Work.txt"),
        )
        browser.client.waits, browser.client.putting_away = asyncio.Event(), asyncio.Event()
        for chat in (one, other):
            await browser.post("ask/summary", {"chats": [chat]})
        await asyncio.sleep(0)
        off = asyncio.create_task(browser.post("settings/disable"))
        for _ in range(50):
            await asyncio.sleep(0)
        # Neither has put away anything yet.
        assert browser.client.cancelled == 2
        assert not off.done()
        browser.client.putting_away.set()
        await off

    run(tmp_path, test)


@pytest.mark.parametrize("path", ["settings/disable", "chats/{}/private"])
def test_no_ends_what_runs_even_if_it_cannot_be_kept(tmp_path: Path, path: str) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        browser.client.waits = asyncio.Event()
        await browser.post("ask/summary", {"chats": [chat]})
        await asyncio.sleep(0)
        (browser.home / "settings.json").write_bytes(b"{")
        assert (await browser.post(path.format(chat), {"on": "yes"}, status=400))["code"] == "config.settings"
        assert browser.client.cancelled == 1

    run(tmp_path, test)


def test_cancelled_before_its_first_step(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        asking, _ = await asyncio.gather(
            browser.post("ask/summary", {"chats": [chat]}), browser.post("settings/disable")
        )
        events = await browser.events(asking["id"])
        assert names(events)[-1] == "end"
        assert "Nothing was sent" in events[-2]["sent"]

    run(tmp_path, test)


def test_the_same_is_not_asked_twice_at_once(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        browser.client.waits = asyncio.Event()
        await browser.post("ask/summary", {"chats": [chat]})
        assert "already" in (await browser.post("ask/summary", {"chats": [chat]}, status=400))["what"]
        await browser.app.close()
        assert len(browser.client.asked) <= 1

    run(tmp_path, test)


def test_a_fault_tells_nothing_of_its_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        browser.client.says = STEPS
        browser.client.fails = RuntimeError("the words of a chat")  # type: ignore[assignment]
        asking = (await browser.post("ask/summary", {"chats": [chat]}))["id"]
        failed = (await browser.events(asking))[-2]
        assert failed["code"] == "error"
        assert (await browser.post(f"chats/{chat}/forget", {"index": "\u00b2"}, status=400))["what"]
        assert (
            await browser.raw("GET", f"static/{'x' * 5000}.js", sec_fetch_site="same-origin")
        ).status == 404
        await asyncio.sleep(0)

    run(tmp_path, test)
    said = caplog.text + "".join(capsys.readouterr())
    assert "a request failed" in caplog.text
    assert "words of a chat" not in said


def test_a_damaged_vault_leaves_the_rest_in_use(tmp_path: Path) -> None:
    (tmp_path / "chats.vault").write_bytes(b"{}\n")

    async def test(browser: Browser) -> None:
        assert "Your chats" in await browser.get()
        page = await browser.get("settings")
        assert "damaged" in page
        assert "Turn it off" in page
        await browser.post("settings/keep/delete")
        assert not (browser.home / "chats.vault").exists()

    run(tmp_path, test)


def test_a_draft_stays_when_the_page_is_made_anew(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        await browser.post(f"chats/{chat}/draft", {"text": "half a <page>"})
        page = await browser.get(f"chats/{chat}")
        assert "half a &lt;page&gt;</textarea>" in page
        # Titles of pages are in the browser's history.
        assert "<title>Sottovoce</title>" in page

    run(tmp_path, test)


def test_stopped_in_the_middle(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        browser.client.waits = asyncio.Event()
        running = (await browser.post("ask/summary", {"chats": [chat]}))["id"]
        await asyncio.sleep(0)
        await browser.post(f"ask/{running}/stop")
        cancelled = (await browser.events(running))[-2]
        assert cancelled["event"] == "cancelled"
        assert "had been sent" in cancelled["sent"]
        assert browser.client.cancelled == 1

    run(tmp_path, test)


def test_no_more_than_four_at_once(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        browser.client.waits = asyncio.Event()
        others = [
            await browser.add(EXPORT.replace("Hello", f"Hi {at}"), f"Other {at}.txt") for at in range(4)
        ]
        for one in others:
            await browser.post("ask/summary", {"chats": [one]})
        assert "still running" in (await browser.post("ask/summary", {"chats": [chat]}, status=400))["what"]
        browser.client.waits.set()
        await browser.app.close()

    run(tmp_path, test)


def test_help_with_a_draft(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        browser.client.says = SUGGESTIONS
        draft = {"chat": chat, "draft": "I cant come tomorrow, sorry.", "style": "professional"}
        asking = (await browser.post("ask/rewrite", draft))["id"]
        events = await browser.events(asking)
        assert browser.client.asked[-1]["messages"] == ()
        suggestion = events[names(events).index("suggestion")]
        assert suggestion["parts"] == [
            ["I ", "same"], ["cant", "gone"], ["cannot", "new"], [" come tomorrow, sorry.", "same"],
        ]  # fmt: skip
        # The chat before it goes along only if the user says so.
        await browser.events(asking)
        await browser.post("ask/rewrite", draft | {"context": True})
        await asyncio.sleep(0)
        assert browser.client.asked[-1]["messages"] == ("1", "2", "3", "4")
        await browser.post("ask/rewrite", draft | {"style": "rude"}, status=400)
        await browser.app.close()

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("says", "error", "sent", "hint"),
    [
        ((), UnavailableError("no relay could be reached", party="relay"), "Nothing was sent", "connection"),
        (STEPS, ServiceError("the service could not answer"), "may have been sent", "Try again"),
        (SUMMARY, ServiceError("the service could not answer"), "had been sent", "Try again"),
    ],
)
def test_an_error_says_what_was_sent(tmp_path: Path, says: Any, error: Any, sent: str, hint: str) -> None:
    async def test(browser: Browser) -> None:
        browser.client.says, browser.client.fails = says, error
        asking = (await browser.post("ask/summary", {"chats": [await browser.add()]}))["id"]
        failed = (await browser.events(asking))[-2]
        assert failed["event"] == "failed"
        assert sent in failed["sent"]
        assert hint in failed["hint"]
        assert failed["what"][0].isupper()
        assert failed["what"].endswith(".")

    run(tmp_path, test)


def test_a_machine_that_fails_a_check(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        browser.client.says = STEPS[:3]
        browser.client.fails = VerificationRefused(Verdict(checks=(FAILED,)))
        asking = (await browser.post("ask/summary", {"chats": [await browser.add()]}))["id"]
        failed = (await browser.events(asking))[-2]
        assert failed["sent"].startswith("Nothing was sent")
        assert [(one["id"], one["status"]) for one in failed["checks"]] == [("measurement", "fail")]
        assert "an attacker could" in failed["checks"][0]["gain"]

    run(tmp_path, test)


def test_a_report_that_could_not_be_kept_is_told(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        browser.client.says = (*SUMMARY, NotKept(error=ReportNotWritten("the report could not be kept")))
        browser.client.fails = ServiceError("the service could not answer")
        asking = (await browser.post("ask/summary", {"chats": [await browser.add()]}))["id"]
        assert "not_kept" in names(await browser.events(asking))

    run(tmp_path, test)


def test_a_saved_summary_and_kept_chats(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        asking = (await browser.post("ask/summary", {"chats": [chat]}))["id"]
        await browser.events(asking)
        assert (await browser.post(f"ask/{asking}/save")) == {"kept": False}
        page = await browser.get(f"chats/{chat}")
        assert "Saved summaries (1)" in page
        assert "They meet on Friday." in page
        short = await browser.post("settings/keep", {"passphrase": "1234"}, status=400)
        assert "at least 8" in short["what"]
        await browser.post("settings/keep", {"passphrase": "a long passphrase"})
        await browser.app.close()
        again = await Browser(tmp_path).open()
        assert "Party" not in await again.get()
        assert "Passphrase" in await again.get()
        wrong = await again.post("settings/unlock", {"passphrase": "another passphrase"}, status=400)
        assert wrong["code"] == "refused.passphrase"
        await again.post("settings/unlock", {"passphrase": "a long passphrase"})
        assert "They meet on Friday." in await again.get(f"chats/{chat}")
        time = str(again.app.shelf.get(chat).saved[0].time)
        # The page that was looked at may be old.
        await again.post(f"chats/{chat}/forget", {"index": "0", "time": "1"}, status=400)
        await again.post(f"chats/{chat}/forget", {"index": "0", "time": time})
        await again.post(f"chats/{chat}/forget", {"index": "0", "time": time}, status=400)
        await again.post("settings/keep/delete")
        await again.app.close()
        assert "Party" not in await (await Browser(tmp_path).open()).get()

    run(tmp_path, test)


def test_saved_twice_is_saved_once_and_only_when_all_has_come(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        browser.client.waits = asyncio.Event()
        asking = (await browser.post("ask/summary", {"chats": [chat]}))["id"]
        await asyncio.sleep(0)
        assert "yet" in (await browser.post(f"ask/{asking}/save", status=400))["what"]
        browser.client.waits.set()
        await browser.events(asking)
        assert "data-saved" not in await browser.get(f"chats/{chat}")
        for _ in range(2):
            assert (await browser.post(f"ask/{asking}/save")) == {"kept": False}
        page = await browser.get(f"chats/{chat}")
        assert "Saved summaries (1)" in page
        assert "data-saved" in page

    run(tmp_path, test)


def test_a_recap_of_several_chats_is_saved_beside_them(tmp_path: Path) -> None:
    says = (
        *STEPS,
        Line(kind="plan", sender="Ada", text="Friday at eight", messages=["1:2"]),
        Line(kind="plan", sender="Cem", text="Monday at nine", messages=["2:4"]),
        Line(kind="plan", sender="Cem", text="or ten", messages=["2:4"]),
    )

    async def test(browser: Browser) -> None:
        browser.client.says = says
        one = await browser.add()
        other = await browser.add(EXPORT.replace("Hello", "Hi"), "WhatsApp Chat with <Work>.txt")
        asking = (await browser.post("ask/summary", {"chats": [one, other]}))["id"]
        await browser.events(asking)
        await browser.post(f"ask/{asking}/save")
        page = await browser.get()
        for part in ("Saved summaries (1)", "Friday at eight", "<bdi>&lt;Work&gt;</bdi></h4>", f"chats/{other}?first=4#m4"):  # fmt: skip
            assert part in page
        assert page.count("<bdi>&lt;Work&gt;</bdi></h4>") == 1
        assert browser.app.shelf.get(one).saved == []
        await browser.post("settings/keep", {"passphrase": "a long passphrase"})
        await browser.app.close()
        again = await Browser(tmp_path).open()
        await again.post("settings/unlock", {"passphrase": "a long passphrase"})
        assert "Monday at nine" in await again.get()
        time = str(again.app.shelf.recaps[0].time)
        await again.post("forget", {"index": "1", "time": time}, status=400)
        await again.post("forget", {"index": "0", "time": time})
        assert "Monday at nine" not in await again.get()

    run(tmp_path, test)


def test_pages_go_on_while_much_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is deleted meanwhile does not come back."""
    begun, go_on, write = threading.Event(), threading.Event(), Vault.write

    def slow(vault: Vault, kept: Kept) -> None:
        begun.set()
        assert go_on.wait(60)
        write(vault, kept)

    async def test(browser: Browser) -> None:
        chat = await browser.add()
        await browser.post("settings/keep", {"passphrase": "a long passphrase"})
        monkeypatch.setattr(Vault, "write", slow)
        marking = asyncio.create_task(browser.post(f"chats/{chat}/marker", {"message": "2"}))
        await asyncio.to_thread(begun.wait, 60)
        assert "Party" in await browser.get(f"chats/{chat}")
        deleting = asyncio.create_task(browser.post("settings/keep/delete"))
        await asyncio.sleep(0.05)
        assert not marking.done()
        go_on.set()
        await asyncio.gather(marking, deleting)
        assert not (tmp_path / "chats.vault").exists()
        await browser.post(f"chats/{chat}/marker", {"message": "3"})
        assert not (tmp_path / "chats.vault").exists()

    run(tmp_path, test)


def test_a_mark_can_be_taken_back_without_its_chat(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        one = await browser.add()
        other = await browser.add(EXPORT.replace("Hello", "Hi"), "WhatsApp Chat with Work.txt")
        for chat in (one, other):
            await browser.post(f"chats/{chat}/private", {"on": "yes"})
            await browser.post(f"chats/{chat}/remove")
        page = await browser.get("settings")
        marks = re.findall(r'name="chat" value="([0-9a-f-]+)"', page)
        assert len(marks) == 2
        await browser.post("settings/allow", {"chat": marks[0]})
        assert re.findall(r'name="chat" value="([0-9a-f-]+)"', await browser.get("settings")) == marks[1:]
        await browser.post("settings/allow", {"chat": ""})
        assert len(SettingsStore(tmp_path).load().private) == 1

    run(tmp_path, test)


def test_nothing_on_the_disk_unless_it_is_kept(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        await browser.events((await browser.post("ask/summary", {"chats": [chat]}))["id"])
        found = on_the_disk(tmp_path)
        assert set(found) == {"environment.json", "settings.json"}
        assert not any(b"Friday" in data for data in found.values())

    run(tmp_path, test)


def test_what_a_chat_says_is_text(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        evil = '3/14/26, 18:00 - <img src=x onerror=alert(1)>: "><script>alert(1)</script>\n' * 2
        chat = await browser.add(evil, "WhatsApp Chat with <b>x</b>.txt")
        for path in ("", f"chats/{chat}", "settings"):
            page = await browser.get(path)
            assert "<script>alert" not in page
            assert "<img" not in page
            assert "<b>x" not in page
        assert "&lt;script&gt;" in await browser.get(f"chats/{chat}")

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "chat.not-a-chat"), (b"\xff\x00", "chat.encoding"), (b"PK\x03\x04broken", "chat.archive")],
)
def test_what_is_no_export(tmp_path: Path, data: bytes, code: str) -> None:
    async def test(browser: Browser) -> None:
        said = await browser.post("import?name=x.txt", data, status=400)
        assert said["code"] == code
        assert "No chats yet" in await browser.get()

    run(tmp_path, test)


def test_too_large_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sottovoce.app.chatroutes._EXPORT", 100)

    async def test(browser: Browser) -> None:
        assert (await browser.post("import?name=x.txt", bytes(101), status=400))["code"] == "limit"

    run(tmp_path, test)


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"message": 3}', b"\xff", b"[" * 60_000, bytes(70_000)])
def test_a_request_of_another_form(tmp_path: Path, body: bytes) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        assert (await browser.post(f"chats/{chat}/marker", body, status=400))["what"]

    run(tmp_path, test)


def test_reports(tmp_path: Path) -> None:
    store = ReportStore(tmp_path)
    store.add(report(1, outcome="done"))
    store.add(report(2, outcome="verification", size_class=0, messages=(), message_count=0))

    async def test(browser: Browser) -> None:
        page = await browser.get("reports")
        assert page.count('<td><a href="') == 2
        assert (await browser.get("reports?outcome=verification")).count('<td><a href="') == 1
        assert (await browser.get("reports?feature=rewrite")).count('<td><a href="') == 0
        one = await browser.get(f"reports/{1:032x}")
        assert "2 messages, in the open" in one
        assert "4096 sealed bytes" in one
        assert "its memory ends with the session" in one
        assert "nothing of yours" in await browser.get(f"reports/{2:032x}")
        exported = await browser.raw("GET", f"reports/export?id={1:032x}", sec_fetch_site="same-origin")
        assert "attachment" in exported.headers["content-disposition"]
        assert json.loads(exported.body)["reports"][0]["id"] == f"{1:032x}"
        # Of another environment, or with evidence that proves nothing: said, not believed.
        assert (await browser.post(f"reports/{1:032x}/verify", status=400))["code"] == "peer.decode"
        await browser.post(f"reports/{1:032x}/delete")
        await browser.post(f"reports/{1:032x}/delete", status=404)
        assert (await browser.get("reports")).count('<td><a href="') == 1

    run(tmp_path, test)


def test_many_reports_are_on_several_pages(tmp_path: Path) -> None:
    store = ReportStore(tmp_path)
    for number in range(1, 104):
        store.add(report(number, outcome="done" if number != 50 else "verification"))

    async def shown(browser: Browser, query: str) -> list[str]:
        return re.findall(r'<td><a href="[^"]*reports/0*([0-9a-f]+)"', await browser.get(f"reports{query}"))

    async def test(browser: Browser) -> None:
        pages = [await shown(browser, query) for query in ("", "?page=2", "?page=3")]
        assert [len(page) for page in pages] == [50, 50, 3]
        assert [int(one, 16) for page in pages for one in page] == list(range(103, 0, -1))
        assert "Page 2 of 3, 103 reports" in await browser.get("reports?page=2")
        for odd in ("0", "x", "-1", "99999999999999", "%C2%B2"):
            assert await shown(browser, f"?page={odd}") == pages[0]
        assert await shown(browser, "?page=1000") == pages[2]
        # The pages of what is filtered stay filtered.
        assert "outcome=done&amp;page=2" in await browser.get("reports?outcome=done")
        assert "Pages of reports" not in await browser.get("reports?outcome=verification")

    run(tmp_path, test)


def test_a_damaged_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "reports.sqlite").write_bytes(b"no database" * 100)
    (tmp_path / "settings.json").write_bytes(b"{")

    async def test(browser: Browser) -> None:
        assert "damaged" in await browser.get("reports")
        page = await browser.get("settings")
        assert "damaged" in page
        assert "Private processing is off" in page

    run(tmp_path, test, enabled=False)


def test_what_was_sent_is_shown_beside_the_report(tmp_path: Path) -> None:
    ReportStore(tmp_path).add(report(1, id=REPORT, messages=("2", "3"), message_count=2))

    async def test(browser: Browser) -> None:
        assert "only their number is known" in await browser.get(f"reports/{REPORT}")
        chat = await browser.add()
        await browser.events((await browser.post("ask/summary", {"chats": [chat]}))["id"])
        page = await browser.get(f"reports/{REPORT}")
        assert "Ada: Friday at eight" in page
        assert "Ben: Can you bring cake?" in page
        assert "Hello all" not in page.partition("messages that were sent")[2]

    run(tmp_path, test)


def test_a_device_that_is_not_set_up(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        (tmp_path / "environment.json").unlink()
        assert "Not set up" in await browser.get()
        assert "disabled" in (await browser.get("settings")).partition("Turn it on")[0][-60:]
        chat = await browser.add()
        assert (await browser.post("ask/summary", {"chats": [chat]}, status=400))["code"] == "config"

    run(tmp_path, test, enabled=False)


def test_a_comparison_of_two_long_texts_takes_no_long_time() -> None:
    assert differences("a b", "a c") == [("a ", "same"), ("b", "gone"), ("c", "new")]
    long = "a b " * 1000
    assert differences(long, long) == [(long, "new")]


def test_a_name_that_nobody_writes_under(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        await browser.post(f"chats/{chat}/reader", {"name": "Mallory"}, status=400)
        await browser.post(f"chats/{chat}/reader", {"name": "Ben"})
        await browser.events((await browser.post("ask/summary", {"chats": [chat]}))["id"])
        assert browser.client.asked[0]["readers"] == ["Ben"]

    run(tmp_path, test)


def test_a_mark_ends_what_runs_about_each_chat_that_it_means(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        # Of one title and with another beginning: to the settings these are one chat.
        one, other = await browser.add(), await browser.add(EXPORT.replace("Hello", "Hi"))
        assert one != other
        browser.client.waits = asyncio.Event()
        running = (await browser.post("ask/summary", {"chats": [other]}))["id"]
        await asyncio.sleep(0)
        await browser.post(f"chats/{one}/private", {"on": "yes"})
        assert names(await browser.events(running))[-2:] == ["cancelled", "end"]
        assert 'id="summarise"' not in await browser.get(f"chats/{other}")

    run(tmp_path, test)


def test_whoever_agreed_to_an_older_text_is_asked_again(tmp_path: Path) -> None:
    SettingsStore(tmp_path).enable(now=1, text_version=0)

    async def test(browser: Browser) -> None:
        assert "Private processing is off" in await browser.get("settings")
        chat = await browser.add()
        button = (await browser.get(f"chats/{chat}")).partition('id="summarise"')[2].partition(">")[0]
        assert "disabled" in button

    run(tmp_path, test, enabled=False)


def test_so_many_answers_are_held_and_the_oldest_go(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        chat = await browser.add()
        ids = []
        for _ in range(20):
            ids.append((await browser.post("ask/summary", {"chats": [chat]}))["id"])
            await browser.events(ids[-1])
        held = [one.id for one in browser.app.askings.all()]
        assert held == ids[-16:]

    run(tmp_path, test)
