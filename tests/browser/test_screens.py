"""The app as a person uses it, in a real browser, with a client that says what each test has it say."""

import asyncio
import io
import re
import zipfile
from contextlib import closing

import pytest
from playwright.sync_api import Browser, FilePayload, expect

from app_kit import EXPORT, FAILED, STEPS, SUGGESTIONS, SUMMARY
from browser.conftest import ARGUMENTS, CHROMIUM, Shown, drop
from sottovoce.attest.verdict import Verdict, VerificationRefused
from sottovoce.core.errors import UnavailableError
from sottovoce.device.answers import Line
from sottovoce.device.settings import SettingsStore

PARTY = ("WhatsApp Chat with Party.txt", EXPORT)
WORK = ("WhatsApp Chat with Work.txt", EXPORT.replace("Hello", "Hi"))


@pytest.mark.off
def test_opt_in(shown: Shown) -> None:
    page = shown.page
    shown.add(PARTY)
    expect(page.get_by_role("button", name="Summarise privately")).to_be_disabled()
    shown.go(page.get_by_role("link", name="Settings").first)
    expect(page.get_by_role("heading", name="Private processing is off")).to_be_visible()
    # Refused: whoever only looks around has agreed to nothing.
    shown.go(page.get_by_role("link", name="Who can see what"))
    page.go_back()
    assert SettingsStore(shown.home).load().enabled is None
    shown.go(page.get_by_role("button", name="Turn it on"))
    expect(page.get_by_role("heading", name="Private processing is on")).to_be_visible()
    shown.go(page.get_by_role("link", name="Party"))
    page.get_by_role("button", name="Summarise privately").click()
    expect(page.locator("#lines .line")).to_have_count(3)
    shown.go(page.get_by_role("link", name="Settings"))
    shown.go(page.get_by_role("button", name="Turn it off"))
    expect(page.get_by_role("heading", name="Private processing is off")).to_be_visible()


def test_a_chat_as_a_messaging_app_shows_it(shown: Shown) -> None:
    page = shown.page
    shown.add(PARTY)
    expect(page.locator(".day")).to_have_text(["Saturday, 14 March 2026", "Sunday, 15 March 2026"])
    expect(page.locator(".sender")).to_have_text(["Ada", "Ben", "Cem"])
    expect(page.locator("#m4 p")).to_have_text("I can <b>bring</b> juice")
    page.get_by_label("Menu of this chat").click()
    page.get_by_label("You write as").select_option("Ben")
    shown.go(page.get_by_role("button", name="Set"))
    expect(page.locator(".bubble.mine")).to_have_text(re.compile("Can you bring cake"))
    # The marker moves.
    page.locator("#m3").hover()
    shown.go(page.locator("#m3 .from-here"))
    expect(page.locator("#unread")).to_contain_text("2 unread")
    expect(page.locator("#unread + #m3")).to_be_visible()


def test_a_summary_whose_citations_lead_to_the_messages(shown: Shown) -> None:
    page = shown.page
    shown.add(PARTY)
    page.get_by_role("button", name="Summarise privately").click()
    expect(page.locator("#lines .headline")).to_contain_text("They meet on Friday.")
    expect(page.locator("#lines .for-you")).to_contain_text("For you, from Ben: Can you bring cake?")
    page.locator("#lines .cite").first.click()
    expect(page.locator("#m2")).to_be_focused()
    # Saved, closed, and still there; unsaved, it is gone.
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved until the app ends")).to_be_visible()
    page.get_by_role("button", name="Close and forget").click()
    page.reload()
    expect(page.locator("#answer")).to_be_hidden()
    page.get_by_text("Saved summaries (1)").click()
    expect(page.locator(".saved")).to_contain_text("They meet on Friday.")


def test_what_happened_beside_the_answer(shown: Shown) -> None:
    page = shown.page
    shown.add(PARTY)
    page.get_by_role("button", name="Summarise privately").click()
    expect(page.locator("#lines .line")).to_have_count(3)
    page.locator("#way > summary").click()
    for party in ("Issuer", "Relay", "Gateway", "Confidential VM"):
        expect(page.locator(".route .reached", has_text=party)).to_be_visible()
    expect(page.locator("#checks")).to_contain_text("the processor signed the report")
    expect(page.locator("#steps li")).to_have_count(5)
    expect(page.get_by_text("Simulated hardware.").first).to_be_visible()


def test_several_chats_at_once(shown: Shown) -> None:
    page = shown.page
    shown.add(PARTY, WORK)
    for name in ("Party", "Work"):
        page.locator(".choose label", has_text=name).click()
    page.get_by_role("button", name="Summarise privately").click()
    expect(page.locator("#lines .line")).to_have_count(3)
    assert shown.client.asked[0]["messages"][0] == "1:1"


def test_a_recap_is_saved_and_found_again(shown: Shown) -> None:
    page = shown.page
    shown.client.says = (*STEPS, Line(kind="plan", sender="Cem", text="Monday", messages=["2:4"]))
    shown.add(PARTY, WORK)
    for name in ("Party", "Work"):
        page.locator(".choose label", has_text=name).click()
    page.get_by_role("button", name="Summarise privately").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved until the app ends")).to_be_visible()
    page.reload()
    expect(page.locator("#lines .line")).to_have_count(1)
    expect(page.get_by_role("button", name="Save")).to_be_hidden()
    page.get_by_text("Saved summaries (1)").click()
    expect(page.locator(".saved h4")).to_have_text("Work")
    shown.go(page.locator(".saved .cite"))
    expect(page.get_by_role("heading", name="Work")).to_be_visible()
    expect(page.locator("#m4")).to_be_in_viewport()


def test_help_with_a_draft(shown: Shown) -> None:
    page = shown.page
    shown.client.says = SUGGESTIONS
    shown.add(PARTY)
    page.get_by_label("Your message").fill("I cant come tomorrow")
    page.get_by_label("Help with the wording").click()
    page.get_by_label("Professional").check()
    page.get_by_role("button", name="Suggest").click()
    first = page.get_by_role("region", name="Suggestion 1")
    first.get_by_text("Compare with the draft").click()
    expect(first.locator("del").first).to_have_text("cant")
    expect(first.locator("ins").first).to_have_text("cannot")
    first.get_by_role("button", name="Use").click()
    expect(page.get_by_label("Your message")).to_have_value("I cannot come tomorrow, sorry.")
    page.get_by_role("region", name="Suggestion 2").get_by_role("button", name="Edit").click()
    expect(page.get_by_label("Your message")).to_be_focused()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "Sorry, I can't make it tomorrow."
    assert shown.client.asked[0]["messages"] == ()


def test_a_private_chat(shown: Shown) -> None:
    page = shown.page
    shown.add(PARTY)
    page.get_by_label("Menu of this chat").click()
    shown.go(page.get_by_role("button", name="Turn Advanced Chat Privacy on"))
    expect(page.locator(".private-mark")).to_contain_text("Advanced Chat Privacy")
    expect(page.get_by_role("button", name="Summarise privately")).to_have_count(0)
    page.get_by_label("Help with the wording").click()
    expect(page.get_by_role("button", name="Suggest")).to_be_disabled()
    shown.go(page.get_by_role("link", name="Sottovoce"))
    expect(page.locator(".choose input")).to_be_disabled()
    assert shown.client.asked == []


def test_the_relay_is_down(shown: Shown) -> None:
    page = shown.page
    shown.client.says, shown.client.fails = (
        STEPS[:2],
        UnavailableError("no relay could be reached", party="relay"),
    )
    shown.add(PARTY)
    page.get_by_role("button", name="Summarise privately").click()
    expect(page.get_by_role("alert").filter(has_text="No relay could be reached.")).to_contain_text(
        "Nothing was sent"
    )


def test_the_machine_has_changed(shown: Shown) -> None:
    page = shown.page
    shown.client.says, shown.client.fails = STEPS[:3], VerificationRefused(Verdict(checks=(FAILED,)))
    shown.add(PARTY)
    page.get_by_role("button", name="Summarise privately").click()
    expect(page.locator("#checks .fail")).to_contain_text("an attacker could")
    expect(page.locator(".failed")).to_contain_text("Nothing was sent")
    expect(page.locator(".route .stopped")).to_contain_text("Gateway")


def test_stopped_in_the_middle(shown: Shown) -> None:
    page = shown.page
    shown.client.says, shown.client.waits = SUMMARY[:6], asyncio.Event()
    shown.add(PARTY)
    page.get_by_role("button", name="Summarise privately").click()
    expect(page.locator("#lines .line")).to_have_count(1)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".failed")).to_contain_text("had been sent")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    assert shown.client.cancelled == 1


def test_loaded_again_and_in_two_tabs(shown: Shown) -> None:
    page = shown.page
    shown.client.says, shown.client.waits = SUMMARY[:6], asyncio.Event()
    shown.add(PARTY)
    page.get_by_role("button", name="Summarise privately").click()
    expect(page.locator("#lines .line")).to_have_count(1)
    page.reload()
    expect(page.locator("#lines .line")).to_have_count(1)
    other = shown.watch(page.context.new_page())
    other.goto(page.url)
    expect(other.locator("#lines .line")).to_have_count(1)
    other.get_by_role("button", name="Stop").click()
    for tab in (page, other):
        expect(tab.locator(".failed")).to_contain_text("Stopped.")
    assert len(shown.client.asked) == 1


def test_the_link_does_not_open_twice(shown: Shown) -> None:
    stranger = shown.page.context.browser
    assert stranger is not None
    context = stranger.new_context()
    page = context.new_page()
    answer = page.goto(shown.link)
    assert answer is not None
    assert answer.status == 403
    context.close()


def zipped(name: str, text: str) -> FilePayload:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
        archive.writestr("photo.jpg", b"\xff\xd8")
    return {
        "name": name.replace(".txt", ".zip"),
        "mimeType": "application/zip",
        "buffer": made.getvalue(),
    }


def test_exports_are_dropped_zipped_and_not(shown: Shown) -> None:
    page = shown.page
    plain: FilePayload = {"name": WORK[0], "mimeType": "text/plain", "buffer": WORK[1].encode()}
    with page.expect_navigation():
        drop(page, [zipped(*PARTY), plain])
    expect(page.locator(".chats .chat-title")).to_have_text(["Party", "Work"])
    shown.go(page.locator(".chats a", has_text="Party"))
    expect(page.locator(".bubble")).to_have_count(4)


def test_nothing_dropped_changes_nothing(shown: Shown) -> None:
    """A dragged word is no file, and leads the browser nowhere."""
    page = shown.page
    shown.add(PARTY)
    before = page.url
    drop(page, [])
    expect(page.locator("#drop")).not_to_have_class(re.compile("over"))
    assert page.url == before


def test_without_scripts_it_is_told(shown: Shown, browser: Browser) -> None:
    """Turned off in the browser: switching off what a page runs does not have its `noscript` shown."""
    shown.add(PARTY)
    more = [*ARGUMENTS, "--blink-settings=scriptEnabled=false"]
    with closing(browser.browser_type.launch(executable_path=CHROMIUM, args=more)) as other:
        page = shown.watch(other.new_page())
        page.goto(shown.more())
        expect(page.locator("noscript p")).to_be_visible()
        page.get_by_role("link", name="Party").first.click()
        expect(page.locator(".bubble")).to_have_count(4)


def test_the_browsers_profile_has_no_word_of_a_chat(
    shown: Shown, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With a profile on the disk, as a person's browser has one. What it does have, to show that it was looked at: titles that tell nothing."""
    profile = tmp_path_factory.mktemp("profile")
    shown.client.says = SUGGESTIONS
    shown.add(PARTY)
    with closing(
        browser.browser_type.launch_persistent_context(profile, executable_path=CHROMIUM, args=ARGUMENTS)
    ) as context:
        page = shown.watch(context.pages[0])
        page.goto(shown.more())
        page.get_by_role("link", name="Party").first.click()
        page.get_by_label("Your message").fill("an unmistakable draft")
        page.get_by_label("Help with the wording").click()
        page.get_by_role("button", name="Suggest").click()
        expect(page.locator(".suggestion")).to_have_count(2)
        page.get_by_role("link", name="Settings").click()
        page.get_by_label("Passphrase, 8 characters or more").fill("unmistakable passphrase")
        with page.expect_navigation():
            page.get_by_role("button", name="Keep them under it").click()
    kept = b"".join(path.read_bytes() for path in profile.rglob("*") if path.is_file())

    def holds(word: str) -> bool:
        return word.encode() in kept or word.encode("utf-16-le") in kept

    assert holds("Settings \u00b7 Sottovoce")
    for word in ("Friday at eight", "Can you bring", "I cannot come", "unmistakable", "Party"):
        assert not holds(word)


def test_what_is_no_chat_is_told(shown: Shown) -> None:
    notes: FilePayload = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"}
    shown.page.set_input_files("#files", notes)
    expect(shown.page.get_by_role("alert")).to_contain_text("not an exported chat")
    # The browser notes that the import was refused.
    shown.complaints[:] = [one for one in shown.complaints if "400" not in one]


def test_kept_under_a_passphrase(shown: Shown) -> None:
    page = shown.page
    shown.add(PARTY)
    shown.go(page.get_by_role("link", name="Settings"))
    page.get_by_label("Passphrase, 8 characters or more").fill("a long passphrase")
    shown.go(page.get_by_role("button", name="Keep them under it"))
    expect(page.get_by_text("under your passphrase")).to_be_visible()
    data = (shown.home / "chats.vault").read_bytes()
    assert b"Friday" not in data
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Delete what is kept").click()
    assert (shown.home / "chats.vault").exists()
    page.once("dialog", lambda dialog: dialog.accept())
    shown.go(page.get_by_role("button", name="Delete what is kept"))
    expect(page.get_by_text("in memory only")).to_be_visible()
    assert not (shown.home / "chats.vault").exists()


def test_by_keyboard_alone(shown: Shown) -> None:
    page = shown.page
    shown.add(PARTY)
    page.get_by_role("button", name="Summarise privately").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#lines .line")).to_have_count(3)
    page.locator("#lines .cite").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#m2")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#m2 .from-here")).to_be_focused()


def test_messages_by_the_arrow_keys(shown: Shown) -> None:
    page = shown.page
    shown.add(PARTY)
    page.locator("#messages").focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#m4")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#m3")).to_be_focused()
    # Of hundreds of buttons one is on the way.
    expect(page.locator(".from-here[tabindex='0']")).to_have_count(1)
    page.get_by_label("Help with the wording").click()
    page.keyboard.press("Escape")
    expect(page.locator(".pencil fieldset")).to_be_hidden()


def test_a_draft_is_not_lost(shown: Shown) -> None:
    page = shown.page
    shown.add(PARTY)
    page.get_by_label("Your message").fill("half a page")
    page.get_by_label("Menu of this chat").click()
    shown.go(page.get_by_role("button", name="Mark all as read"))
    expect(page.get_by_label("Your message")).to_have_value("half a page")
    expect(page.get_by_text("Nothing is unread.")).to_be_visible()


def test_a_double_click_asks_once(shown: Shown) -> None:
    shown.client.waits = asyncio.Event()
    shown.add(PARTY)
    shown.page.get_by_role("button", name="Summarise privately").dblclick()
    expect(shown.page.locator("#lines .line")).to_have_count(3)
    assert len(shown.client.asked) == 1


def test_one_good_export_and_one_that_is_none(shown: Shown) -> None:
    files: list[FilePayload] = [
        {"name": PARTY[0], "mimeType": "text/plain", "buffer": PARTY[1].encode()},
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"},
    ]
    shown.page.set_input_files("#files", files)
    expect(shown.page.locator("#imported")).to_contain_text(
        "Party: 4 messages; notes.txt: The file is not an exported chat"
    )
    shown.complaints[:] = [one for one in shown.complaints if "400" not in one]


def test_a_citation_of_a_message_that_is_not_on_the_page(shown: Shown) -> None:
    page = shown.page
    lines = "".join(f"3/14/26, {at // 60:02}:{at % 60:02} - Ada: message {at}\n" for at in range(600))
    shown.add(("Long.txt", lines))
    page.get_by_role("button", name="Summarise privately").click()
    expect(page.locator("#m2")).to_have_count(0)
    shown.go(page.locator("#lines .cite").first)
    expect(page.locator("#m2")).to_be_in_viewport()


def test_the_page_is_light(shown: Shown) -> None:
    sizes: dict[str, int] = {}
    shown.page.on(
        "response", lambda answer: sizes.update({answer.url: len(answer.body())}) if answer.ok else None
    )
    shown.page.reload(wait_until="networkidle")
    shown.add(PARTY)
    shown.page.wait_for_load_state("networkidle")
    own = {url: size for url, size in sizes.items() if "/static/" in url}
    assert len(own) >= 4
    assert sum(own.values()) < 150_000
