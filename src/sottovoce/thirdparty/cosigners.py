"""A log's side of C2SP tlog-witness: asks the witnesses, and waits for no more of them than its quorum needs."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp
import msgspec

from sottovoce.core.errors import LimitError, PeerError, SottovoceError
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import Note, NoteSignature, VerifierKey
from sottovoce.tlog.tree import Tree

__all__ = ["Cosigners", "RolledBackError", "WitnessAddress"]

_TIMEOUT: Final = 10.0
"""Seconds that one request may take."""
_GRACE: Final = 1.0
"""Seconds to wait for further witnesses once there is a quorum."""
_MAX_ANSWER: Final = 16 * 1024
"""Four cosignatures of the post-quantum kind, which are not ours, fit."""
_OK, _CONFLICT, _UNPROCESSABLE = 200, 409, 422
_LateCallback = Callable[[str, NoteSignature], None]


class WitnessAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A witness: its key (vkey) and its submission prefix."""

    key: str
    url: str


class RolledBackError(SottovoceError):
    """A witness has a tree head with this log's own signature that the log's files do not give: they were rolled back."""

    code = "log.rolled-back"


class _Witness:
    """What the log knows of one witness. `well`: it answered the last time, so it is worth waiting for."""

    def __init__(self, address: WitnessAddress) -> None:
        self.key = VerifierKey.parse(address.key)
        self.url = address.url.rstrip("/")
        self.size = 0
        self.well = True
        self.task: asyncio.Task[NoteSignature | None] | None = None

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()


class Cosigners:
    """The witnesses of the log `origin`, whose key is `log_key`.

    Attributes:
        error: set once a witness has proved that the log was rolled back; nothing may be appended then.
    """

    def __init__(
        self,
        witnesses: Sequence[WitnessAddress],
        *,
        origin: str,
        log_key: VerifierKey,
        quorum: int,
        late: _LateCallback,
    ) -> None:
        self._witnesses = [_Witness(address) for address in witnesses]
        self._origin = origin
        self._log_key = log_key
        self._quorum = quorum
        self._late = late
        self.session: aiohttp.ClientSession | None = None
        self.error: RolledBackError | None = None

    @property
    def keys(self) -> list[VerifierKey]:
        """The witnesses' keys."""
        return [witness.key for witness in self._witnesses]

    def count(self, note: Note) -> int:
        """How many of the witnesses have a cosignature on `note`."""
        return sum(any(key.made(item) for item in note.signatures) for key in self.keys)

    async def gather(self, note: Note, tree: Tree) -> list[NoteSignature]:
        """Cosignatures on `note`, the head of `tree`. A witness that is late gives its own to `late` when it comes."""
        idle = [witness for witness in self._witnesses if not witness.busy]
        others = [witness for witness in self._witnesses if witness.busy]
        found = await self._round(idle, note, tree, self._quorum)
        if len(found) < self._quorum and others:
            await asyncio.wait([witness.task for witness in others if witness.task])
            found += await self._round(others, note, tree, self._quorum - len(found))
        return found

    async def _round(
        self, witnesses: list[_Witness], note: Note, tree: Tree, quorum: int
    ) -> list[NoteSignature]:
        asked = {asyncio.ensure_future(self._ask(witness, note, tree)): witness for witness in witnesses}
        for task, witness in asked.items():
            witness.task = task
        found, pending, clock = list[NoteSignature](), set(asked), asyncio.get_running_loop().time
        deadline = None
        while pending:
            if len(found) >= quorum:
                deadline = clock() + _GRACE if deadline is None else deadline
                if not any(asked[task].well for task in pending):
                    deadline = clock()
            wait = None if deadline is None else max(0.0, deadline - clock())
            done, pending = await asyncio.wait(pending, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                asked[task].well = task.result() is not None
            found += [signature for task in done if (signature := task.result()) is not None]
            if not done:
                break
        for task in pending:
            asked[task].well = False
            task.add_done_callback(lambda done: self._came(note.text, done))
        return found

    def _came(self, text: str, task: asyncio.Task[NoteSignature | None]) -> None:
        if not task.cancelled() and (signature := task.result()) is not None:
            self._late(text, signature)

    async def stop(self) -> None:
        """End what is still being asked."""
        tasks = [witness.task for witness in self._witnesses if witness.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, witness: _Witness, note: Note, tree: Tree) -> NoteSignature | None:
        """One witness's cosignature; None if it gives none. What it says is its own business, so this never raises."""
        # The tree may grow meanwhile; what is asked about stays what it was.
        size = Checkpoint.parse(note.text).size
        try:
            async with asyncio.timeout(_TIMEOUT):
                # The second try is for a witness that saw another size last than we thought.
                found = await self._ask_at(witness, note, tree, size)
                return found or await self._ask_at(witness, note, tree, size)
        except RolledBackError as error:
            self.error = error
            return None
        except (aiohttp.ClientError, OSError, PeerError, ValueError):
            return None

    async def _ask_at(self, witness: _Witness, note: Note, tree: Tree, size: int) -> NoteSignature | None:
        if self.session is None or witness.size > size:
            witness.size = 0
            return None
        path = tree.consistency_proof(witness.size, size)
        head = Note(text=note.text, signatures=note.signatures[:1])
        lines = [f"old {witness.size}\n", *(base64.b64encode(node).decode() + "\n" for node in path), "\n"]
        body = "".join(lines).encode() + head.encode()
        url = witness.url + "/add-checkpoint"
        async with self.session.post(url, data=body, allow_redirects=False) as response:
            answer = await _read(response.content)
            status = response.status
        if status == _CONFLICT and re.fullmatch(rb"(?:0|[1-9][0-9]{0,18})\n", answer):
            witness.size = int(answer)
            if witness.size > size:
                await self._compare(witness, tree)
            return None
        if status == _UNPROCESSABLE:
            await self._compare(witness, tree)
        if status != _OK:
            return None
        signed = Note.parse(head.text.encode() + b"\n" + answer)
        signed.cosigned_at(witness.key)
        witness.size = size
        return next((item for item in signed.signatures if witness.key.made(item)), None)

    async def _compare(self, witness: _Witness, tree: Tree) -> None:
        """A witness says that it saw another history: see whether it can prove that with our own signature.

        Raises:
            RolledBackError: it can.
        """
        if self.session is None:
            return
        url = f"{witness.url}/{hashlib.sha256(self._origin.encode()).hexdigest()}/checkpoint"
        async with self.session.get(url, allow_redirects=False) as response:
            if response.status != _OK:
                return
            note = Note.parse(await _read(response.content))
        head = Checkpoint.parse(note.text)
        if not note.signed_by(self._log_key) or head.origin != self._origin:
            return
        # With the tree as it is now: somebody else may have shown the witness a newer head than the one asked about.
        if head.size > tree.size or head.root != tree.root(head.size):
            raise RolledBackError("a witness has seen what the log's files do not hold")


async def _read(content: aiohttp.StreamReader) -> bytes:
    answer = b""
    while len(answer) <= _MAX_ANSWER and (piece := await content.read(_MAX_ANSWER)):
        answer += piece
    if len(answer) > _MAX_ANSWER:
        raise LimitError("the witness's answer is longer than its limit")
    return answer
