"""A real browser: Debian's Chromium, driven by Playwright. Every request that it makes is written down."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect, sync_playwright

from app_kit import Scripted, prepare, served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Chromium refuses its own sandbox as root; the pages are ours.
ARGUMENTS = ["--no-sandbox"] if os.geteuid() == 0 else []
# Only the bound of a test that fails.
expect.set_options(timeout=60_000)
WIDE, NARROW = (1280, 860), (390, 780)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser. Playwright keeps an event loop running in this thread for as long as it is open: nothing else can run one meanwhile."""
    if CHROMIUM is None:
        pytest.skip("chromium is not here (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


def drop(page: Page, files: list[FilePayload]) -> None:
    """Drop files on the page, as from a folder's window."""
    held = page.evaluate_handle(
        """files => {
            const held = new DataTransfer();
            for (const [name, type, bytes] of files) held.items.add(new File([new Uint8Array(bytes)], name, { type }));
            return held;
        }""",
        [[one["name"], one["mimeType"], list(one["buffer"])] for one in files],
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": held})
    page.dispatch_event("body", "drop", {"dataTransfer": held})


# No longer than a module: the next one may want a loop of its own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@dataclass
class Shown:
    """The app in a browser."""

    page: Page
    client: Scripted
    link: str
    more: Callable[[], str]
    """Makes links for other browsers."""
    home: Path
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What the console says: errors of scripts, violations of the policy."""

    @property
    def origin(self) -> str:
        url = urlsplit(self.link)
        return f"{url.scheme}://{url.netloc}"

    def watch(self, page: Page) -> Page:
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None)  # fmt: skip
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def add(self, *exports: tuple[str, str]) -> None:
        """Add exports, each a name and a text, as a person chooses files."""
        files: list[FilePayload] = [
            {"name": name, "mimeType": "text/plain", "buffer": text.encode()} for name, text in exports
        ]
        with self.page.expect_navigation():
            self.page.set_input_files("#files", files)

    def go(self, by: Locator) -> None:
        """Click on what leads to another page, or to the same one made anew, and wait until that is there."""
        with self.page.expect_navigation():
            by.click()


@pytest.fixture
def shown(browser: Browser, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shown]:
    """The app, opened by its link, with private processing on (off where the test is marked so)."""
    prepare(tmp_path, enabled=request.node.get_closest_marker("off") is None)
    with served(tmp_path) as (link, client):
        context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.set_default_timeout(60_000)
        page = context.new_page()
        found = Shown(page=page, client=client, link=link(), more=link, home=tmp_path)
        found.watch(page)
        page.goto(found.link)
        try:
            yield found
            # The page loads nothing from outside, and nothing in it breaks the policy.
            assert not [
                url for url in found.requests if not url.startswith((found.origin, "blob:" + found.origin))
            ]
            assert found.complaints == []
        finally:
            context.close()
