"""Where a store is: one URL.

    /var/lib/sottovoce/spent.sqlite                     SQLite, one machine; also as sqlite:PATH, which takes options
    redis://127.0.0.1:6379/0                            Redis or Valkey on this machine; number of the database
    redis:///0?socket=/run/valkey/valkey.sock           the same, through a socket
    rediss://gateway@store.example:6380/0               on another machine: TLS
    postgresql://gateway@store.example:5432/sottovoce   PostgreSQL; TLS unless it is on this machine
    postgresql://gateway@/sottovoce?socket=/run/postgresql

Options follow a `?`: see `StoreUrl`. A URL has no password in it, as it is shown and copied; `password_file` names a file that does.
`valkey://` and `valkeys://` mean what `redis://` and `rediss://` do.
"""

import ipaddress
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from sottovoce.core.errors import ConfigError

__all__ = ["StoreUrl", "parse_store_url"]

_KINDS: Final = {
    "sqlite": "sqlite",
    "redis": "redis",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "postgresql": "postgresql",
    "postgres": "postgresql",
}
_TLS: Final = {"rediss", "valkeys"}
_PORTS: Final = {"redis": 6379, "postgresql": 5432}
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_NUMBER: Final = re.compile(r"[0-9]{1,12}")
_SECONDS: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?")
_ID: Final = re.compile(r"[0-9a-f]{32}")
_PASSWORD_LIMIT: Final = 4096
_TOKENS: Final = 10_000_000
"""Three days of 38 sessions a second. About 640 MB in SQLite, 1 GB of memory in Redis, 1.7 GB in PostgreSQL."""
_TIME: Final = 3.0
"""Seconds: a device waits longer for its first trip, and a store that takes longer is ill."""
_OPTIONS: Final = {
    "sqlite": {"tokens", "seconds"},
    "redis": {"tokens", "seconds", "store", "socket", "password_file", "ca"},
    "postgresql": {"tokens", "seconds", "store", "socket", "password_file", "ca"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """A store's place and its options.

    Attributes:
        kind: `sqlite`, `redis` (Valkey too) or `postgresql`.
        path: SQLite's file.
        host: name or address, port: of the server; empty and 0 with a socket.
        socket: a Unix socket, or for PostgreSQL the folder of it.
        user: who we are for the server; may be empty.
        database: its name; for Redis its number.
        tls: whether the connection is TLS; the server's certificate must then be for `host`.
        tokens: about how many spent tokens the store may hold: a full one refuses.
        seconds: how long a write may take.
        store: the id that the store was given when it was made, 32 hexadecimal digits, or empty for any.
        password_file: path of a file with the password, or empty.
        ca: path of a PEM file with the authorities for `tls`, or empty for the system's.
    """

    kind: str
    path: str = ""
    host: str = ""
    port: int = 0
    socket: str = ""
    user: str = ""
    database: str = ""
    tls: bool = False
    tokens: int = _TOKENS
    seconds: float = _TIME
    store: str = ""
    password_file: str = ""
    ca: str = ""

    def password(self) -> str:
        """What the password file has now, without its last line's end; nothing where there is no such file.

        Raises:
            ConfigError: the file cannot be read, is empty, longer than 4,096 bytes, or not UTF-8.
        """
        if not self.password_file:
            return ""
        try:
            with Path(self.password_file).open("rb") as file:
                data = file.read(_PASSWORD_LIMIT + 1)
            text = data.decode().removesuffix("\n")
        except (OSError, UnicodeDecodeError):
            text, data = "", b""
        if not text or len(data) > _PASSWORD_LIMIT:
            raise ConfigError("the store's password cannot be read", hint=f"looked for {self.password_file}")
        return text

    def tls_context(self) -> ssl.SSLContext | None:
        """What verifies the server, or None where the connection is not TLS.

        Raises:
            ConfigError: the authorities' file cannot be used.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
        except (OSError, ssl.SSLError):
            raise ConfigError(
                "the store's authorities cannot be read", hint=f"looked for {self.ca}"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context


def parse_store_url(text: str) -> StoreUrl:
    """The store that `text` names: a URL as above, or the path of a SQLite file.

    Raises:
        ConfigError: not such a URL, an unknown option, a password in it, or another machine without TLS.
    """
    if not _SCHEME.match(text):
        if not text:
            raise ConfigError("no store is given")
        return StoreUrl(kind="sqlite", path=text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigError("the store's URL is malformed") from None
    kind = _KINDS.get(parts.scheme)
    if kind is None:
        raise ConfigError("the store's URL has an unknown scheme", hint="sqlite, redis, rediss or postgresql")
    if parts.password is not None:
        raise ConfigError("the store's URL holds a password", hint="put it in a file: ?password_file=PATH")
    if parts.fragment or "#" in text:
        raise ConfigError("the store's URL has a fragment")
    options = _options(parts.query, _OPTIONS[kind])
    if kind == "sqlite":
        return _sqlite(parts, options)
    return _server(kind, parts, port, options)


def _options(query: str, known: set[str]) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ConfigError("the store's URL has malformed options") from None
    options = dict(pairs)
    if len(options) < len(pairs) or not set(options) <= known:
        raise ConfigError("the store's URL has an unknown or repeated option", hint=", ".join(sorted(known)))
    if not all(options.values()):
        raise ConfigError("the store's URL has an option without a value")
    return options


def _sqlite(parts: SplitResult, options: dict[str, str]) -> StoreUrl:
    if parts.netloc or not parts.path:
        raise ConfigError("the store's URL names no file", hint="sqlite:/PATH")
    return StoreUrl(
        kind="sqlite", path=unquote(parts.path), tokens=_tokens(options), seconds=_seconds(options)
    )


def _server(kind: str, parts: SplitResult, port: int | None, options: dict[str, str]) -> StoreUrl:
    host, socket = parts.hostname or "", options.get("socket", "")
    if bool(host) == bool(socket):
        raise ConfigError("the store's URL needs either a host or a socket")
    if socket and port:
        raise ConfigError("the store's URL has a port and a socket")
    near = bool(socket) or _is_this_machine(host)
    tls = parts.scheme in _TLS or (kind == "postgresql" and not near)
    if not tls and not near:
        raise ConfigError("a store on another machine needs TLS", hint="rediss://")
    if tls and socket:
        raise ConfigError("a socket has no TLS", hint="redis://")
    if "ca" in options and not tls:
        raise ConfigError("authorities for a connection that is not TLS")
    if not _ID.fullmatch(options.get("store", "0" * 32)):
        raise ConfigError("the store's id is not 32 hexadecimal digits")
    return StoreUrl(
        kind=kind,
        host=host,
        port=0 if socket else port or _PORTS[kind],
        socket=socket,
        user=unquote(parts.username or ""),
        database=_database(kind, unquote(parts.path).removeprefix("/")),
        tls=tls,
        tokens=_tokens(options),
        seconds=_seconds(options),
        store=options.get("store", ""),
        password_file=options.get("password_file", ""),
        ca=options.get("ca", ""),
    )


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _database(kind: str, name: str) -> str:
    if kind == "redis":
        if not re.fullmatch(r"[0-9]{0,5}", name):
            raise ConfigError("a database of Redis is a number")
        return name or "0"
    if not name or "/" in name or "\x00" in name:
        raise ConfigError("the store's URL names no database")
    return name


def _tokens(options: dict[str, str]) -> int:
    text = options.get("tokens", str(_TOKENS))
    if not _NUMBER.fullmatch(text) or int(text) == 0:
        raise ConfigError("a store has room for 1 token to 999,999,999,999")
    return int(text)


def _seconds(options: dict[str, str]) -> float:
    text = options.get("seconds", str(_TIME))
    if not _SECONDS.fullmatch(text) or float(text) == 0:
        raise ConfigError("a store's time limit is 0.001 to 999.999 seconds")
    return float(text)
