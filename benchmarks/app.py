"""The app beside the command line: from the click to the first line on the page, and from the start of the command to the first line on the terminal.

One world with the small model, one device; they take turns. The browser is Debian's Chromium, and the page itself says when the line is there.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from playwright.sync_api import Page, sync_playwright

from sottovoce.cli.model import default_folder
from sottovoce.device.settings import SettingsStore
from sottovoce.device.sync_client import SyncClient
from sottovoce.simulator.models import SMALL, ModelFile
from sottovoce.simulator.world import World

PAIRS: Final = 9
BOUND: Final = 1.10
PAUSE: Final = 1.0
"""Seconds before each measurement: the spare process of the session before is made anew meanwhile."""
CHAT: Final = Path(__file__).parents[1] / "examples" / "chats" / "book-club.txt"
CLICKED: Final = """() => new Promise((done) => {
    const lines = document.getElementById("lines");
    const began = performance.now();
    const seen = new MutationObserver(() => {
        if (lines.querySelector(".line")) { seen.disconnect(); done(performance.now() - began); }
    });
    seen.observe(lines, {childList: true, subtree: true});
    document.getElementById("summarise").click();
})"""


def command(home: Path, *words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "sottovoce", "--home", str(home), *words]


def on_the_terminal(home: Path) -> float:
    """Seconds from the start of `sottovoce summarize` to its first line."""
    began = time.perf_counter()
    with subprocess.Popen(command(home, "summarize", str(CHAT)), stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if "• " in line or "for you: " in line:
                took = time.perf_counter() - began
                for _ in process.stdout:
                    pass
                return took
    raise RuntimeError("the command gave no line")


def on_the_page(page: Page) -> float:
    """Seconds from the click to the first line."""
    took = float(page.evaluate(CLICKED)) / 1000
    # The last click has hidden it: it is there when this session is over.
    page.wait_for_selector("#report:not([hidden])", state="attached", timeout=120_000)
    return took


@contextmanager
def app(home: Path) -> Iterator[str]:
    with subprocess.Popen(command(home, "app"), stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.search(r"http://\S+token=\S+", line):
                    yield found.group()
                    return
        finally:
            process.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is not here: nothing is measured")
        return 1
    path = default_folder() / SMALL.file
    if not path.exists():
        print(f"no model at {path}; run `sottovoce model fetch --small` first")
        return 1
    model = ModelFile(name=SMALL.name, path=path, sha256=SMALL.sha256, bytes=SMALL.bytes)
    terminal: list[float] = []
    browser: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "device"
        world = World(Path(folder) / "world", model=model)
        world.start()
        try:
            world.enrol(home)
            SettingsStore(home).enable(now=int(time.time()))
            with SyncClient(home) as client:
                client.refill_wallet(only_if_due=False)
            with app(home) as link, sync_playwright() as playwright:
                args = ["--no-sandbox"] if os.geteuid() == 0 else []
                page = playwright.chromium.launch(executable_path=chromium, args=args).new_page()
                page.goto(link)
                with page.expect_navigation():
                    page.set_input_files("#files", str(CHAT))
                for number in range(PAIRS + 1):
                    time.sleep(PAUSE)
                    terminal.append(on_the_terminal(home))
                    time.sleep(PAUSE)
                    browser.append(on_the_page(page))
                    if number == 0:
                        # The first of each warms what stays.
                        terminal.clear()
                        browser.clear()
        finally:
            world.stop()
    ratio = median(browser) / median(terminal)
    print(
        f"first line, command line: median {1000 * median(terminal):6.0f} ms, lowest {1000 * min(terminal):6.0f}"
    )
    print(
        f"first line, app:          median {1000 * median(browser):6.0f} ms, lowest {1000 * min(browser):6.0f}"
    )
    print(f"ratio: {ratio:.2f}   (bound {BOUND:.2f})")
    if arguments.json:
        arguments.json.write_text(json.dumps({"terminal_s": terminal, "page_s": browser, "ratio": ratio}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
