"""Who gets in: the browser with the link, once; nobody else of this machine or of the web."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from app_kit import HOST, Browser
from asgi import fetch
from sottovoce.app.access import Access


def run(test: Callable[[Browser], Coroutine[Any, Any, None]], home: Path) -> None:
    asyncio.run(test(Browser(home)))


def token(access: Access) -> str:
    return access.link(2).partition("token=")[2]


def test_a_link_opens_once(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        shown = token(browser.access)
        first = await browser.raw("GET", f"?token={shown}")
        assert first.status == 303
        # The token is not in the address that the browser keeps in its history.
        assert first.headers["location"] == browser.access.base
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert f"Path={browser.access.base}" in cookie
        again = await browser.raw("GET", f"?token={shown}")
        assert again.status == 403
        assert "set-cookie" not in again.headers
        assert b"opens the app once" in again.body

    run(test, tmp_path)


def test_a_script_does_not_open_a_link(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        shown = token(browser.access)
        for headers in ({"sec_fetch_dest": "empty"}, {"service_worker_navigation_preload": "true"}):
            answer = await browser.raw("GET", f"?token={shown}", **headers)
            assert answer.status == 403
        opened = await browser.raw("GET", f"?token={shown}", sec_fetch_dest="document")
        assert opened.status == 303
        # What an earlier server on this port left in the browser goes before the first page comes.
        assert opened.headers["clear-site-data"] == '"storage"'

    run(test, tmp_path)


def test_a_browser_that_is_in_spends_a_link_too(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        await browser.open()
        shown = token(browser.access)
        assert (await browser.raw("GET", f"?token={shown}")).status == 303
        again = await browser.raw("GET", f"?token={shown}")
        assert (again.status, again.headers["location"]) == (303, browser.access.base)
        assert (await Browser(tmp_path).raw("GET", f"?token={shown}")).status == 403

    run(test, tmp_path)


def test_a_cookie_of_another_server_locks_nobody_out(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        await browser.open()
        for cookie in (f"{browser._cookie}; sottovoce=x", f"sottovoce=x; {browser._cookie}"):
            assert (await browser.raw("GET", "", cookie=cookie)).status == 200
        assert (await browser.raw("GET", "", cookie="sottovoce=x; other=y")).status == 403

    run(test, tmp_path)


def test_the_seventeenth_link_ends_the_first() -> None:
    access = Access()
    links = [token(access) for _ in range(17)]
    assert not access.opens(links[0])
    assert all(access.opens(one) for one in links[1:])


@pytest.mark.parametrize(
    "path", ["", "chats/x", "settings", "static/app.js", "reports/export", "ask/x/events"]
)
def test_nothing_without_the_cookie(tmp_path: Path, path: str) -> None:
    async def test(browser: Browser) -> None:
        assert (await browser.raw("GET", path)).status == 403
        assert (await browser.raw("GET", path, cookie="sottovoce=wrong")).status == 403

    run(test, tmp_path)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:2"},
        {"host": "127.0.0.1:3"},
        {"host": "127.0.0.1"},
        {"host": "localhost:2"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_what_comes_from_elsewhere(tmp_path: Path, headers: dict[str, str]) -> None:
    async def test(browser: Browser) -> None:
        await browser.open()
        assert (await browser.raw("GET", "")).status == 200
        assert (await browser.raw("GET", "", **headers)).status == 403

    run(test, tmp_path)


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "http://127.0.0.1:3", f"https://{HOST}"]
)
def test_only_our_own_pages_change_anything(tmp_path: Path, origin: str | None) -> None:
    async def test(browser: Browser) -> None:
        await browser.open()
        headers = {} if origin is None else {"origin": origin}
        assert (await browser.raw("POST", "settings/disable", **headers)).status == 403
        assert "private processing on" in await browser.get()
        await browser.post("settings/disable")
        assert "private processing on" not in await browser.get()

    run(test, tmp_path)


def test_an_address_without_the_folder(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        await browser.open()
        for path in ("/", "/settings", browser.access.base.rstrip("/") + "x/"):
            for cookie in ({}, {"cookie": browser._cookie}):
                answer = await fetch(browser.gate, "GET", path, headers={"host": HOST, **cookie})
                assert answer.status == 403

    run(test, tmp_path)


def test_every_answer_has_the_headers(tmp_path: Path) -> None:
    async def test(browser: Browser) -> None:
        refused = await browser.raw("GET", "")
        await browser.open()
        pages = [await browser.raw("GET", path) for path in ("", "static/app.css", "chats/none", "nowhere")]
        assert [page.status for page in pages] == [200, 200, 404, 404]
        for answer in (refused, *pages):
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none';")
            assert "unsafe" not in policy
            assert "http" not in policy
            assert "require-trusted-types-for 'script'" in policy
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "server" not in answer.headers

    run(test, tmp_path)


def test_secrets_show_in_no_repr() -> None:
    access = Access()
    assert token(access) not in repr(access)
    assert access.base not in repr(access)
