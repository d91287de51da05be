"""A relay's own copies of the directory's files, fetched on its own time.

A mirror that saw the relay ask whenever a device does would know for whom: the device asks the mirror itself at the same moment. It could then
give both of them a document for this device alone. So a device's request is answered from what is here: a document is kept as it first
came, for good, and a proof until the relay's next round. Only what is not here at all is fetched at once, and that once.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from sottovoce.core.errors import UnavailableError
from sottovoce.core.limits import LIMITS
from sottovoce.core.tokenkeys import EPOCH_SECONDS
from sottovoce.thirdparty.upstream import Upstream, UpstreamError
from sottovoce.tlog.directoryfiles import file_epoch, is_note, note_name, proof_name

__all__ = ["DirectoryCopies", "MirrorUnreachableError"]

_KEPT: Final = 8
"""Documents that are kept, with their proofs: those nearest to today."""
_SPREAD: Final = (0.5, 1.5)
_OK: Final = 200


class MirrorUnreachableError(UnavailableError):
    """The mirror does not answer, or does not have the directory."""

    code = "unavailable.directory"


class DirectoryCopies:
    """Copies of what `mirror` has. `seconds` is how often it is asked, on average; `clock` gives unix seconds."""

    def __init__(self, mirror: Upstream, *, seconds: float, clock: Callable[[], float]) -> None:
        self._mirror = mirror
        self._seconds = seconds
        self._clock = clock
        self._files: dict[str, bytes] = {}
        self._coming: dict[str, asyncio.Task[bytes]] = {}

    async def get(self, name: str) -> bytes:
        """The file of this name.

        Raises:
            MirrorUnreachableError: it is not here, and the mirror does not give it.
        """
        if name in self._files:
            return self._files[name]
        # Many devices that ask at once are one request.
        if name not in self._coming:
            self._coming[name] = asyncio.ensure_future(self._fetch(name))
            self._coming[name].add_done_callback(lambda _: self._coming.pop(name, None))
        return await asyncio.shield(self._coming[name])

    async def follow(self) -> None:
        """Ask the mirror again and again, for what there is and for the documents of today and tomorrow."""
        while True:
            await self.look()
            await asyncio.sleep(self._seconds * random.uniform(*_SPREAD))  # noqa: S311 - it keeps no secret

    async def look(self) -> None:
        """One round: fresh proofs, and documents that are not here yet. What the mirror does not give stays as it is."""
        today = int(self._clock()) // EPOCH_SECONDS
        epochs = {today, today + 1, *map(file_epoch, self._files)}
        for epoch in sorted(epochs):
            with suppress(MirrorUnreachableError):
                if note_name(epoch) not in self._files:
                    await self._fetch(note_name(epoch))
                await self._fetch(proof_name(epoch))

    async def _fetch(self, name: str) -> bytes:
        path = self._mirror.path.rstrip(b"/") + b"/" + name.encode()
        try:
            connection = await self._mirror.acquire()
            try:
                connection.start(
                    b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (path, self._mirror.authority), complete=True
                )
                await connection.head()
                body = await connection.whole(LIMITS.directory)
            finally:
                self._mirror.release(connection)
        except UpstreamError:
            raise MirrorUnreachableError("the mirror does not answer", party="directory") from None
        if connection.status != _OK:
            raise MirrorUnreachableError("the mirror does not have the file", party="directory")
        return self._keep(name, body)

    def _keep(self, name: str, body: bytes) -> bytes:
        if is_note(name):
            body = self._files.setdefault(name, body)
        else:
            self._files[name] = body
        today = int(self._clock()) // EPOCH_SECONDS
        epochs = sorted({file_epoch(each) for each in self._files}, key=lambda epoch: abs(epoch - today))
        for epoch in epochs[_KEPT:]:
            self._files.pop(note_name(epoch), None)
            self._files.pop(proof_name(epoch), None)
        return body
