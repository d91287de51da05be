"""`sottovoce app` as a person starts it: a real browser in front, every party behind it, and all that leaves the device written down."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from browser.conftest import chromium
from e2e.conftest import CHATS, Device, serving
from sottovoce.device.reports import ReportStore

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_WATCHED = """
import sys
told = open(sys.argv.pop(1), "a", buffering=1)
def hook(event, arguments):
    if event == "socket.connect":
        told.write(f"{arguments[1]!r}\\n")
    elif event in ("socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        told.write(f"{event} {arguments[1:2]!r}\\n")
sys.addaudithook(hook)
from sottovoce.cli.main import main
main()
"""
"""The command, with each connection that this process opens written to a file. Python says so itself, before it happens."""


@contextmanager
def app(device: Device, connections: Path) -> Iterator[str]:
    """The app of `device`; gives the link that it printed."""
    words = [sys.executable, "-P", "-c", _WATCHED, str(connections), "--home", str(device.home), "app"]
    link = r"http://127\.0\.0\.1:\d+/\S+token=\S+"
    with serving(words, device.variables, link) as found:
        yield found.group()


def allowed(device: Device) -> set[str]:
    """Where a device may connect to: mirrors, issuer and the relays of the directory."""
    pinned = json.loads((device.home / "environment.json").read_text())
    kept = (device.home / "directory.json").read_text()
    urls = [*pinned["mirrors"], *pinned["relays"], pinned["issuer"], *re.findall(r"https?://[^\"\\]+", kept)]
    return {urlsplit(url).netloc for url in urls if url}


def test_a_summary_and_a_draft_through_every_party(device: Device, tmp_path: Path) -> None:
    connections = tmp_path / "connections"
    asked: list[str] = []
    with chromium() as browser, app(device, connections) as link:
        context = browser.new_context()
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(link)
        with page.expect_navigation():
            page.set_input_files("#files", str(CHATS / "book-club.txt"))
        page.get_by_role("button", name="Summarise privately").click()
        expect(page.locator("#report")).to_have_attribute("href", re.compile("reports"), timeout=200_000)
        quotes = page.locator("#lines .line:not(.headline)")
        if pictures := os.environ.get("SOTTOVOCE_SCREENSHOTS"):
            page.locator("#messages").evaluate("one => one.querySelector('#unread').scrollIntoView()")
            page.screenshot(path=str(Path(pictures) / "app.png"))
        assert quotes.count() >= 3
        # Each number leads to the message that the line quotes.
        for index in range(quotes.count()):
            quote = quotes.nth(index)
            quote.locator(".cite").first.click()
            shown = page.locator(".bubble.shown").last
            said = re.sub(r"\s*\d+$", "", quote.inner_text().partition(": ")[2]).rstrip("…")
            assert " ".join(said.split())[:40] in " ".join(shown.inner_text().split())
        page.locator("#way > summary").click()
        assert page.locator("#checks .pass").count() >= 48
        assert page.locator("#checks .fail").count() == 0
        page.get_by_label("Your message").fill("cant make it tmrw sry")
        page.get_by_label("Help with the wording").click()
        page.get_by_label("Professional").check()
        page.get_by_role("button", name="Suggest").click()
        expect(page.locator(".suggestion").first).to_be_visible(timeout=200_000)
        expect(page.locator("#report")).to_have_attribute("href", re.compile("reports"), timeout=200_000)
        with page.expect_navigation():
            page.locator("#report").click()
        page.get_by_role("button", name="Verify again").click()
        expect(page.locator("#verified")).to_contain_text("Accepted again")
        expect(page.get_by_text("the draft, in the open")).to_be_visible()
        context.close()
        reports = ReportStore(device.home).list()
        assert [(one.feature, one.outcome) for one in reports] == [("summary", "done"), ("rewrite", "done")]
        # The page asked nobody but the app.
        origin = link.partition("/?")[0].rsplit("/", 1)[0]
        assert asked
        assert all(url.startswith(origin) for url in asked)
        # And the app connected with nobody but relays, mirrors and the issuer.
        lines = connections.read_text().splitlines()
        places = {
            ":".join(map(str, found)) for found in re.findall(r"\('([^']+)', (\d+)\)", "\n".join(lines))
        }
        assert places
        assert places <= allowed(device), places - allowed(device)
        assert all(
            re.fullmatch(r"\('127\.0\.0\.1', \d+\)|socket\.getaddrinfo .*'127\.0\.0\.1'.*", line)
            for line in lines
        ), lines
    words = (CHATS / "book-club.txt").read_text().split("Anna Lindqvist: ")[3].split("\n")[0][:30].encode()
    assert words
    assert not [path for path in device.home.rglob("*") if path.is_file() and words in path.read_bytes()]
