"""Every screen, wide and narrow, light and dark: nothing that axe calls serious, nothing wider than the screen. `SOTTOVOCE_SCREENSHOTS` names a folder for pictures of them."""

import asyncio
import os
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, expect

from app_kit import EXPORT, FAILED, PASSED, REPORT, STEPS, SUGGESTIONS
from browser.conftest import NARROW, WIDE, Shown
from device_kit import report
from sottovoce.attest.verdict import Verdict, VerificationRefused
from sottovoce.device.reports import ReportStore

AXE = Path(__file__).parents[1] / "peers/node_modules/axe-core/axe.min.js"
Scheme = Literal["light", "dark"]


def talk() -> str:
    names = ("Ada", "Ben", "Cem", "Dora Maria de la Concepción")
    texts = (
        "Shall we meet on Friday?",
        "Yes, at eight. I have booked a table for six people under my name, and they want to know by Thursday how many we are.",
        "https://example.org/a/very/long/address/that/has/no/place/to/break/and/goes/on/and/on",
        "👍",
    )
    lines = [
        f"3/{14 + at // 20}/26, 18:{at % 60:02} - {names[at % 4]}: {texts[at % 3 if at % 5 else 3]}"
        for at in range(60)
    ]
    return "\n".join(
        [*lines, "3/17/26, 08:00 - Ada: <Media omitted>", "3/17/26, 08:01 - Ben: This message was deleted"]
    )


def look(shown: Shown, page: Page, name: str) -> None:
    """Judge the screen as it is, in both widths and both schemes."""
    if not AXE.exists():
        pytest.skip("axe-core is not here (make peers)")
    found: list[str] = []
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for width, size in (("wide", WIDE), ("narrow", NARROW)):
        for scheme in schemes:
            page.set_viewport_size({"width": size[0], "height": size[1]})
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            if pictures := os.environ.get("SOTTOVOCE_SCREENSHOTS"):
                page.screenshot(path=str(Path(pictures) / f"{name}-{width}-{scheme}.png"))
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, width)
            page.evaluate(AXE.read_text())
            result: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            found += [
                f"{width} {scheme} {one['id']}: {node['target']} {node.get('failureSummary')}"
                for one in result["violations"]
                if one["impact"] in {"serious", "critical"}
                for node in one["nodes"]
            ]
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    # axe itself tries what the policy forbids, and the browser says so.
    shown.complaints[:] = [one for one in shown.complaints if "Trusted" not in one and "style" not in one]
    assert not found, "\n".join(found)


def add(shown: Shown) -> None:
    shown.add(
        ("WhatsApp Chat with Choir and everybody else.txt", talk()), ("WhatsApp Chat with Party.txt", EXPORT)
    )
    shown.go(shown.page.get_by_role("link", name="Choir").first)


def test_empty_and_off(shown: Shown) -> None:
    look(shown, shown.page, "empty")


def test_the_list(shown: Shown) -> None:
    add(shown)
    shown.go(shown.page.get_by_role("link", name="Sottovoce"))
    look(shown, shown.page, "chats")


def test_a_chat(shown: Shown) -> None:
    add(shown)
    look(shown, shown.page, "chat")
    shown.page.get_by_label("Menu of this chat").click()
    look(shown, shown.page, "chat-menu")


def test_an_answer(shown: Shown) -> None:
    add(shown)
    shown.page.get_by_role("button", name="Summarise privately").click()
    expect(shown.page.locator("#lines .line")).to_have_count(3)
    look(shown, shown.page, "summary")
    shown.page.locator("#way > summary").click()
    look(shown, shown.page, "what-happened")


def test_waiting(shown: Shown) -> None:
    shown.client.says, shown.client.waits = STEPS, asyncio.Event()
    add(shown)
    shown.page.get_by_role("button", name="Summarise privately").click()
    expect(shown.page.locator("#doing")).to_contain_text("sending now")
    look(shown, shown.page, "waiting")


def test_refused(shown: Shown) -> None:
    shown.client.says, shown.client.fails = STEPS[:3], VerificationRefused(Verdict(checks=(PASSED, FAILED)))
    add(shown)
    shown.page.get_by_role("button", name="Summarise privately").click()
    expect(shown.page.locator(".failed")).to_be_visible()
    look(shown, shown.page, "refused")


def test_suggestions(shown: Shown) -> None:
    shown.client.says = SUGGESTIONS
    add(shown)
    shown.page.get_by_label("Your message").fill("I cant come tomorrow")
    shown.page.get_by_label("Help with the wording").click()
    look(shown, shown.page, "pencil")
    shown.page.get_by_role("button", name="Suggest").click()
    shown.page.get_by_text("Compare with the draft").first.click()
    look(shown, shown.page, "suggestions")


def test_settings_on(shown: Shown) -> None:
    add(shown)
    shown.go(shown.page.get_by_role("link", name="Settings"))
    look(shown, shown.page, "settings-on")


@pytest.mark.off
def test_settings_off(shown: Shown) -> None:
    shown.go(shown.page.get_by_role("link", name="Settings"))
    look(shown, shown.page, "settings-off")


def test_reports(shown: Shown) -> None:
    ReportStore(shown.home).add(report(1, id=REPORT))
    ReportStore(shown.home).add(
        report(2, outcome="unavailable.relay", size_class=0, messages=(), message_count=0)
    )
    shown.go(shown.page.get_by_role("link", name="What happened"))
    look(shown, shown.page, "reports")
    shown.go(shown.page.get_by_role("link", name="2026-09").last)
    look(shown, shown.page, "report")


def test_who_sees_what(shown: Shown) -> None:
    shown.go(shown.page.get_by_role("link", name="Who sees what"))
    look(shown, shown.page, "who")
