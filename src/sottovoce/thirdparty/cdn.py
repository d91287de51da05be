"""A mirror of public files: one flat folder, no listing, the same bytes for everybody.

GET /<name>
GET /healthz
"""

import hashlib
import re
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core import asgi
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog

__all__ = ["Config", "create_app"]

_NAME: Final = re.compile(r"/([a-z0-9][a-z0-9._-]{0,99})")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The mirror's configuration."""

    folder: str


class _Mirror:
    def __init__(self, config: Config) -> None:
        self._folder = Path(config.folder)
        if not self._folder.is_dir():
            raise ConfigError("the mirror's folder is not there")

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "lifespan":
            await asgi.lifespan(receive, send, shutdown=lambda: None)
            return
        match = _NAME.fullmatch(scope["path"])
        if scope["method"] != "GET" or match is None or match[1] == "healthz":
            await asgi.respond(send, 204 if scope["path"] == "/healthz" else 404)
            return
        data = _read(self._folder / match[1])
        if data is None:
            await asgi.respond(send, 404)
            return
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'.encode()
        headers = ((b"etag", tag), (b"cache-control", b"public, max-age=60"))
        if asgi.header(scope, b"if-none-match") == tag:
            await asgi.respond(send, 304, b"", *headers)
            return
        await asgi.respond(send, 200, data, *headers, kind=b"application/octet-stream")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() and not path.is_symlink() else None
    except OSError:
        return None


def create_app(config: Config, *, log: EventLog) -> asgi.App:
    """The mirror as an ASGI application.

    Raises:
        ConfigError: the folder is not there.
    """
    del log  # it has nothing to say
    return _Mirror(config)
