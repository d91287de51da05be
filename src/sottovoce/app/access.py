"""Who may speak with the app: the browser that opened a link with a one-time token, and nobody else on this machine or on the web.

    link   http://127.0.0.1:PORT/BASE/?token=TOKEN   printed on the terminal; TOKEN opens once
    then   a cookie for /BASE/, for this browser alone

Browsers send cookies of one host to every port of it, so BASE is drawn at random: a server of somebody else's on another port never sees the
cookie. A page of another origin can neither read nor ask: whatever a browser says came from elsewhere is refused, and so is another host name
(a name that was made to point here).
"""

import hmac
import secrets
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Access", "Gate"]

_COOKIE: Final = "sottovoce"
_BYTES: Final = 24
_LINKS: Final = 16
"""Links that are open at one time; the oldest stops working."""
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = (
    ("content-security-policy", _POLICY),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), browsing-topics=()"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("cache-control", "no-store"),
)
"""On every answer. Nothing is stored by the browser: a chat must not stay in its cache."""
_FROM_HERE: Final = frozenset({"same-origin", "none"})
"""What a browser says of a request (`Sec-Fetch-Site`) that comes from our own pages, or from the user's hands."""
_PRELOAD: Final = "service-worker-navigation-preload"
_READS: Final = frozenset({"GET", "HEAD"})


class Access:
    """The secrets of one run: where the app is, the links that open it, and the cookie that a browser gets for one."""

    def __init__(self) -> None:
        self.base = f"/{secrets.token_urlsafe(_BYTES)}/"
        self._links: list[str] = []
        self._cookie = secrets.token_urlsafe(_BYTES)

    def __repr__(self) -> str:
        return "<Access>"

    def link(self, port: int) -> str:
        """A URL that opens the app once."""
        self._links = [*self._links, secrets.token_urlsafe(_BYTES)][-_LINKS:]
        return f"http://127.0.0.1:{port}{self.base}?token={self._links[-1]}"

    def opens(self, token: str) -> bool:
        """Whether `token` opens the app; it never does again."""
        for known in self._links:
            if hmac.compare_digest(known.encode(), token.encode("utf-8", "replace")):
                self._links.remove(known)
                return True
        return False

    def knows(self, request: Request) -> bool:
        """Whether the request comes from a browser that was let in."""
        # A server on another port can add a cookie of the same name: any of them may be ours.
        shown = [
            value
            for header in request.headers.getlist("cookie")
            for name, _, value in (one.strip().partition("=") for one in header.split(";"))
            if name == _COOKIE
        ]
        return any(
            hmac.compare_digest(one.encode("utf-8", "replace"), self._cookie.encode()) for one in shown
        )

    def admit(self) -> Response:
        """The answer to a link that opens: the cookie, and the app without the token in its address."""
        response = RedirectResponse(self.base, status_code=303)
        response.set_cookie(_COOKIE, self._cookie, path=self.base, httponly=True, samesite="strict")
        # An earlier server on this port may have left a service worker in the browser, which would see and change every page.
        response.headers["clear-site-data"] = '"storage"'
        return response


class Gate:
    """Stands before the application: lets in whom `access` knows, and puts the same headers on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, by ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = [(name, value) for name, value in message["headers"] if name.lower() != b"server"]
                ours = [(name.encode(), value.encode()) for name, value in _HEADERS]
                message = {**message, "headers": [*present, *ours]}
            await send(message)

        request = Request(scope, receive)
        refusal = self._judge(request)
        if refusal is None:
            inner = dict(scope)
            inner["path"] = "/" + scope["path"].removeprefix(self._access.base)
            inner["raw_path"] = inner["path"].encode()
            await self._app(inner, receive, with_headers)
        else:
            await refusal(scope, receive, with_headers)

    def _judge(self, request: Request) -> Response | None:
        """The answer to a request that goes no further."""
        if why := self._foreign(request):
            return _no(why)
        token = request.query_params.get("token")
        if token is not None and request.method == "GET":
            return self._by_link(request, token)
        if not self._access.knows(request):
            return _no("Open the app with the link on the terminal; press Enter there for another one.")
        return None

    def _by_link(self, request: Request, token: str) -> Response:
        # A script that fetches the link, such as a service worker, must not spend it, and a browser that is in must not leave it open.
        if request.headers.get("sec-fetch-dest", "document") != "document" or _PRELOAD in request.headers:
            return _no("A link is opened by hand, and not by a script.")
        if self._access.opens(token):
            return self._access.admit()
        if self._access.knows(request):
            return RedirectResponse(self._access.base, status_code=303)
        return _no(
            "Each link opens the app once, and this one was used. Press Enter on the terminal for another one."
        )

    def _foreign(self, request: Request) -> str:
        """Why a request cannot be one of the user's browser on one of our pages; empty if it can."""
        host = request.headers.get("host", "")
        server = request.scope.get("server") or ("", 0)
        # Not by name either: `localhost` may be another address, and somebody else's server.
        if host != f"127.0.0.1:{server[1]}":
            return "This address is for this machine alone."
        if request.headers.get("sec-fetch-site", "none") not in _FROM_HERE:
            return "Another page asked for this. Only the app's own pages may."
        if request.method not in _READS and request.headers.get("origin") != f"http://{host}":
            return "Only the app's own pages may change anything."
        if not request.url.path.startswith(self._access.base):
            return "Open the app with the link on the terminal."
        return ""


def _no(why: str) -> Response:
    return PlainTextResponse(why + "\n", status_code=403, headers={"clear-site-data": '"storage"'})
