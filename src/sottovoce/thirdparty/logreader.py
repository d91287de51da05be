"""Reading a log's public files (C2SP tlog-tiles) over HTTP. Nothing that comes is believed: it is compared with a signed tree head."""

import json
from types import TracebackType
from typing import Final, Self

import aiohttp

from sottovoce.core.errors import DecodeError, LimitError, ProtocolError, UnavailableError
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.note import Note

__all__ = ["LogReader", "MissingError"]

_TIMEOUT: Final = aiohttp.ClientTimeout(total=300.0, sock_connect=5.0, sock_read=30.0)
_CHECKPOINT: Final = 64 * 1024
_BUNDLE: Final = tiles.WIDTH * (tiles.MAX_ENTRY + 2)
_TILE: Final = tiles.WIDTH * merkle.HASH
_ANSWER: Final = 4096
_OK, _GONE = 200, (404, 410)


class MissingError(UnavailableError):
    """Somebody answers there, and does not have the file."""

    code = "unavailable.file"


class LogReader:
    """The files below one URL: a log's, or a mirror's."""

    def __init__(self, url: str, *, party: str = "log") -> None:
        self.url = url.rstrip("/")
        self._party = party
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, *, limit: int) -> bytes:
        """The file at `path`, of at most `limit` bytes.

        Raises:
            MissingError: it is not there.
            UnavailableError: nobody answers, or with an error.
            LimitError: it is longer.
        """
        return await self._ask("GET", path, None, {}, limit)

    async def submit(self, path: str, body: bytes, secret: str) -> int:
        """Submit an entry as the operator; its index.

        Raises:
            ProtocolError: the log refuses it; the text has the log's own code.
            UnavailableError: nobody answers.
        """
        answer = await self._ask("POST", path, body, {"Authorization": f"Bearer {secret}"}, _ANSWER)
        try:
            return int(json.loads(answer)["index"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DecodeError("the log's answer is malformed") from None

    async def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], limit: int
    ) -> bytes:
        if self._session is None:
            raise UnavailableError("this reader is not open", party=self._party)
        try:
            async with self._session.request(
                method, f"{self.url}/{path}", data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status in _GONE:
                    raise MissingError(f"the {self._party} does not have the file", party=self._party)
                read = bytearray()
                async for piece in response.content.iter_any():
                    read += piece
                    if len(read) > limit:
                        raise LimitError(f"a file of the {self._party} is longer than its limit")
                answer = bytes(read)
                if response.status != _OK:
                    raise self._refused(method, response.status, answer)
                return answer
        except (aiohttp.ClientError, TimeoutError, ValueError):  # a malformed URL is a ValueError
            raise UnavailableError(f"the {self._party} does not answer", party=self._party) from None

    def _refused(self, method: str, status: int, answer: bytes) -> Exception:
        if method == "GET":
            return UnavailableError(f"the {self._party} answers {status}", party=self._party)
        known = {
            code: words
            for code, words in (
                ("peer.crypto.publishers", "two publishers have not signed it, each once"),
                ("peer.crypto.note-signature", "a publisher's signature does not verify"),
                ("refused.two-keys", "a release needs the signatures of two publishers"),
                ("refused.operator", "the operator's secret is another one"),
            )
            if f'"{code}"'.encode() in answer
        }
        code, words = next(iter(known.items()), ("", f"it answers {status}"))
        return ProtocolError(f"the log refuses the entry: {words}", hint=code)

    # What a log has.

    async def checkpoint(self) -> Note:
        """The newest tree head that is shown; nothing is verified.

        Raises:
            DecodeError: it is no signed note.
            UnavailableError: it cannot be had.
        """
        return Note.parse(await self.get("checkpoint", limit=_CHECKPOINT))

    async def entries(self, start: int, size: int) -> list[bytes]:
        """The entries from `start` of the log of `size` entries; nothing is verified.

        How many are too many is the caller's to say: a monitor reads again as many as it keeps, whatever that has grown to.

        Raises:
            LimitError: a file that is too long.
            DecodeError: a bundle that is malformed, or does not hold what it must.
            UnavailableError: one cannot be had.
        """
        found: list[bytes] = []
        for index in range(start // tiles.WIDTH, -(-size // tiles.WIDTH)):
            width = min(tiles.WIDTH, size - index * tiles.WIDTH)
            data, held = await self._partial("entries", index, width, _BUNDLE)
            bundle = tiles.decode_bundle(data)
            if len(bundle) != held:
                raise DecodeError("an entry bundle holds another number of entries than it must")
            found += bundle[max(0, start - index * tiles.WIDTH) : width]
        return found

    async def leaves(self, size: int) -> list[bytes]:
        """The leaf hashes of the log of `size` entries; nothing is verified.

        Raises:
            LimitError: more than `LIMITS.log_entries`; or a file that is too long.
            DecodeError: a tile that is malformed, or does not hold what it must.
            UnavailableError: one cannot be had.
        """
        tiles.require_count(size)
        found: list[bytes] = []
        for index in range(-(-size // tiles.WIDTH)):
            width = min(tiles.WIDTH, size - index * tiles.WIDTH)
            data, held = await self._partial(0, index, width, _TILE)
            tile = tiles.read_tile(data)
            if len(tile) != held:
                raise DecodeError("a tile holds another number of hashes than it must")
            found += tile[:width]
        return found

    async def tile(self, path: str) -> bytes:
        """One tile as it is.

        Raises:
            UnavailableError: it cannot be had.
        """
        return await self.get(path, limit=_TILE)

    async def _partial(self, level: int | str, index: int, width: int, limit: int) -> tuple[bytes, int]:
        """A partial tile, or the full one that has taken its place (tlog-tiles, "Partial tiles"); and how much it must hold."""
        try:
            return await self.get(tiles.tile_path(level, index, width), limit=limit), width
        except MissingError:
            if width == tiles.WIDTH:
                raise
            return await self.get(tiles.tile_path(level, index), limit=limit), tiles.WIDTH
