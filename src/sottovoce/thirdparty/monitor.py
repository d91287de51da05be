"""A monitor: follows a log and its witnesses, keeps every entry, and says what is not as it must be (protocol section 10).

    1. the tree heads that the log and its other sources show: form, the log's signature, quorum, age, each witness
    2. consistency, from the files of the log alone: what was kept before must be the beginning of what is shown now
    3. the log's hash tiles: what the tree head stands for
    4. each new entry: kind, form, one directory an epoch
    5. each public artifact: every file fetched, lengths and digests compared
    6. releases that devices report: in the log, and not expired

A witness shows a tree head, and has no files: they are the log's, which writes them before any witness is asked. So a tree head that the log
has not published yet is read from the log's own files. One that nobody has the files of is remembered, and compared when the log has come
that far, whether or not it is shown again.

Its folder holds every entry and the last tree head that was verified. It is a third party's: nothing in it is secret, and who can write
to it can make the monitor forget. Entries are on the disk before the tree head over them is, so that a stop at any moment forgets nothing.
"""

import base64
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from sottovoce.core.errors import ConfigError, DecodeError, LimitError, PeerError, UnavailableError
from sottovoce.core.limits import LIMITS
from sottovoce.thirdparty.files import StorageError, write_whole
from sottovoce.thirdparty.findings import Book, Finding, Use
from sottovoce.thirdparty.logreader import LogReader, MissingError
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.artifacts import File
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import Note, SignatureError
from sottovoce.tlog.policy import LogPolicy, QuorumError

__all__ = ["Monitor", "Report", "WitnessLine"]

FORMAT: Final = "sottovoce-monitor"
_MAX_NEW: Final = LIMITS.log_entries
"""Entries in one round: a log that says it has more is not followed."""
_PUBLISHING: Final = 300
"""Seconds for which a tree head may lack files: where the log is read from a mirror, that may be behind a witness."""
_MAX_UNPROVED: Final = 16
"""Tree heads without files that are remembered: one is enough to prove a fork, and a log that lies can sign any number."""
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    origin: str
    note: str
    """The last verified tree head, base64 of the signed note; empty before the first."""
    length: _Count
    """Bytes of the file of entries that belong to it."""
    forks: list[tuple[str, int | None, int]] = []
    """Text, size, and when each was found."""
    published: _Count | None = None
    """Size of the largest tree head that the log has shown, itself or by a mirror of its files; None: all that is kept."""
    unproved: list[tuple[str, int]] = []
    """Tree heads that the log has signed and nobody has the files of: the signed note, base64, and when it was seen first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessLine:
    """A pinned witness, and when it cosigned the tree head (unix seconds)."""

    name: str
    time: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One round."""

    origin: str
    url: str
    time: int
    size: int
    root: bytes
    new: int
    witnesses: tuple[WitnessLine, ...]
    quorum: int
    counts: dict[str, int]
    artifacts: int
    """Public artifacts that were fetched and found as the log says, in this round."""
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """As docs/monitor.schema.json has it."""
        return {
            "format": FORMAT,
            "version": 1,
            "log": self.origin,
            "url": self.url,
            "time": self.time,
            "checkpoint": {
                "size": self.size,
                "root": self.root.hex(),
                "quorum": self.quorum,
                "witnesses": [{"name": one.name, "cosigned": one.time} for one in self.witnesses],
            },
            "new_entries": self.new,
            "entries": self.counts,
            "artifacts_verified": self.artifacts,
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """A tree head that the log has signed, and where its files are."""

    source: LogReader
    note: Note
    head: Checkpoint


class Monitor:
    """Follows the log of `policy`, with its memory in `folder`."""

    def __init__(self, folder: Path, policy: LogPolicy) -> None:
        """Open the folder, or begin.

        Raises:
            ConfigError: what was kept is damaged, or of another log. It is never ignored: that would forget what was seen.
        """
        self._folder = folder
        self._policy = policy
        self._book = Book(policy.origin)
        self._leaves: list[bytes] = []
        self._state = self._load()

    @property
    def size(self) -> int:
        """Entries that are verified and kept."""
        return len(self._leaves)

    # Memory.

    def _load(self) -> _State:
        try:
            state = msgspec.json.decode((self._folder / "state.json").read_bytes(), type=_State)
        except FileNotFoundError:
            if (self._folder / "entries").exists():
                raise ConfigError("the monitor's record is lost; its entries are still there") from None
            return _State(origin=self._policy.origin, note="", length=0)
        except (OSError, msgspec.DecodeError, UnicodeError, RecursionError):
            raise ConfigError("the monitor's record is damaged", hint=f"look at {self._folder}") from None
        if state.origin != self._policy.origin:
            raise ConfigError("the monitor's folder is of another log")
        try:
            for note, _ in state.unproved:
                _decoded(note)
        except (ValueError, PeerError):
            raise ConfigError("the monitor's record is damaged", hint=f"look at {self._folder}") from None
        if state.note:
            self._read_entries(state)
        return state

    def _read_entries(self, state: _State) -> None:
        try:
            head = _decoded(state.note)[1]
            with (self._folder / "entries").open("rb") as file:
                entries = tiles.decode_bundle(file.read(state.length), limit=head.size)
        except (OSError, ValueError, PeerError):
            raise ConfigError("the monitor's entries are damaged", hint=f"look at {self._folder}") from None
        for entry in entries:
            self._keep(entry)
        if (len(self._leaves), merkle.tree_head(self._leaves)) != (head.size, head.root):
            raise ConfigError("the monitor's entries are damaged", hint=f"look at {self._folder}")

    def _keep(self, entry: bytes) -> None:
        self._book.add(len(self._leaves), entry)
        self._leaves.append(merkle.leaf_hash(entry))

    def _save(self, note: Note, entries: list[bytes], *, published: bool) -> None:
        data, path = tiles.encode_bundle(entries), self._folder / "entries"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with path.open("r+b" if path.exists() else "w+b") as file:
                # What a round that was stopped has left behind its tree head goes.
                file.truncate(self._state.length)
                file.seek(self._state.length)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            raise StorageError("the entries cannot be kept", hint="is the disk full?") from None
        shown = None if published else self._published
        self._write(
            msgspec.structs.replace(
                self._state, note=_encoded(note), length=self._state.length + len(data), published=shown
            )
        )
        for entry in entries:
            self._keep(entry)

    def _write(self, state: _State) -> None:
        write_whole(self._folder / "state.json", msgspec.json.encode(state))
        self._state = state

    # One round.

    async def round(
        self,
        log: LogReader,
        *,
        now: int,
        others: Sequence[LogReader] = (),
        brought: Sequence[Note] = (),
        artifacts: LogReader | None = None,
        uses: list[Use] | None = None,
    ) -> Report:
        """Look once.

        `others` show tree heads of the same log too: mirrors, with its files, or witnesses, without. `brought` are some that somebody was
        shown, `artifacts` has public artifacts by their SHA-256.

        Raises:
            UnavailableError: the log does not answer, so that nothing can be said.
            LimitError: more new entries than one round takes.
            StorageError: what was seen cannot be kept.
        """
        before, findings = self.size, list[Finding]()
        shown = [await self._shown(log, findings)]
        for other in others:
            try:
                shown.append(await self._shown(other, findings))
            except UnavailableError:
                text = f"source {others.index(other) + 1} of tree heads does not answer"
                findings.append(Finding(code="source-unreachable", text=text))
        # The log's own first: what it shows is the measure of the others.
        if shown[0] is not None:
            await self._follow(shown[0], log, findings, now, first=True)
        heads = [one for one in shown[1:] if one is not None]
        texts = {one.note.text for one in heads}
        heads += [one for one in self._waiting(log) if one.note.text not in texts]
        for one in sorted(heads, key=lambda one: one.head.size):
            await self._follow(one, log, findings, now)
        findings += await self._unproved(log, now)
        for note in brought:
            await self._compare(note, log, findings, now)
        witnesses = self._witnesses(shown[0], findings, now)
        verified = await self._artifacts(artifacts, findings) if artifacts is not None else 0
        findings += [*self._book.unlogged(), *self._book.used(uses or [])]
        forks = [Finding(code="fork", text=text, size=size) for text, size, _ in self._state.forks]
        return Report(
            origin=self._policy.origin,
            url=log.url,
            time=now,
            size=self.size,
            root=merkle.tree_head(self._leaves),
            new=self.size - before,
            witnesses=witnesses,
            quorum=self._policy.quorum,
            counts=dict(self._book.counts),
            artifacts=verified,
            findings=(*forks, *findings, *self._book.findings),
        )

    # 1. Tree heads.

    async def _shown(self, source: LogReader, findings: list[Finding]) -> _Shown | None:
        try:
            note = await source.checkpoint()
        except PeerError:
            findings.append(Finding(code="checkpoint-invalid", text="the tree head is no signed note"))
            return None
        return self._signed(note, source, findings)

    def _signed(self, note: Note, source: LogReader, findings: list[Finding]) -> _Shown | None:
        try:
            head = Checkpoint.parse(note.text)
            if head.origin == self._policy.origin and note.signed_by(self._policy.log_key):
                return _Shown(source=source, note=note, head=head)
            text = "the tree head is of another log, or not signed by it"
        except PeerError as error:
            text = f"the tree head: {error}"
        findings.append(Finding(code="checkpoint-invalid", text=text))
        return None

    async def _compare(self, note: Note, log: LogReader, findings: list[Finding], now: int) -> None:
        one = self._signed(note, log, findings)
        if one is not None and one.head.size <= self.size:
            await self._follow(one, log, findings, now)
        elif one is not None:
            text = (
                f"a tree head of size {one.head.size} was shown to somebody, and here one of size {self.size}"
            )
            findings.append(Finding(code="checkpoint-unproved", text=text, size=one.head.size))

    def _witnesses(self, one: _Shown | None, findings: list[Finding], now: int) -> tuple[WitnessLine, ...]:
        if one is None:
            return ()
        policy, size, lines = self._policy, one.head.size, list[WitnessLine]()
        for key in policy.witnesses:
            time = None
            try:
                time = one.note.cosigned_at(key)
            except SignatureError:
                findings.append(
                    Finding(
                        code="witness-late", text=f"{key.name}: its cosignature does not verify", size=size
                    )
                )
            else:
                if time is None or now - time > policy.max_age:
                    age = (
                        "has not cosigned it"
                        if time is None
                        else f"cosigned it {(now - time) // 3600} hours ago"
                    )
                    findings.append(Finding(code="witness-late", text=f"{key.name} {age}", size=size))
            lines.append(WitnessLine(name=key.name, time=time))
        findings += self._quorum(one, now)
        return tuple(lines)

    def _quorum(self, one: _Shown, now: int) -> Iterator[Finding]:
        policy, size = self._policy, one.head.size
        try:
            policy.verify_checkpoint(one.note, now=now)
        except QuorumError:
            text = f"fewer than {policy.quorum} of {len(policy.witnesses)} witnesses have cosigned"
            yield Finding(code="quorum", text=text, size=size)
        except SignatureError:
            pass  # said of the witness
        except PeerError as error:
            yield Finding(code="checkpoint-late", text=str(error), size=size)

    # 2, 3 and 4. The tree.

    async def _follow(
        self, one: _Shown, log: LogReader, findings: list[Finding], now: int, *, first: bool = False
    ) -> None:
        """Compare a tree head with what is kept, and keep what is new under it. `first`: it is the one that the log shows."""
        size, head = self.size, one.head
        if head.size <= size:
            if merkle.tree_head(self._leaves[: head.size]) != head.root:
                await self._fork(one, now)
            elif first:
                findings += self._shown_by_log(head.size)
            return
        if head.size - size > _MAX_NEW:
            raise LimitError("the log says that it has more new entries than one round takes")
        try:
            one, entries = await self._read(one, log)
        except MissingError:
            wrong = [Finding(code="tile-missing", text="an entry bundle is not there", size=head.size)]
        except (DecodeError, LimitError) as error:
            wrong = [Finding(code="tile-mismatch", text=str(error), size=head.size)]
        else:
            wrong = await self._extend(one, entries, now, published=first or one.source is not log)
        if not first and self.size == size:
            # The log itself may not have published this one yet, and where it is read from a mirror, that may be behind.
            self._wait(one, now)
            wrong = [finding for finding in wrong if finding.code != "tile-missing"]
        findings += [finding for finding in wrong if finding not in findings]

    async def _extend(self, one: _Shown, entries: list[bytes], now: int, *, published: bool) -> list[Finding]:
        """Keep the entries if they are those of the tree head, and see whether its hash tiles are there."""
        size, leaves = self.size, [*self._leaves, *map(merkle.leaf_hash, entries)]
        if merkle.tree_head(leaves) == one.head.root:
            wrong = [finding async for finding in self._tiles(one, leaves, size)]
            # Before it is published, it counts when all of its files are there.
            if published or all(finding.code != "tile-missing" for finding in wrong):
                self._save(one.note, entries, published=published)
            return wrong
        if await self._is_whole(one):
            await self._fork(one, now)
            return []
        text = "the log's entries do not give its signed tree head"
        return [Finding(code="tile-mismatch", text=text, size=one.head.size)]

    async def _read(self, one: _Shown, log: LogReader) -> tuple[_Shown, list[bytes]]:
        """What is new under a tree head; the log has the files where another source has none, as a witness."""
        try:
            return one, await one.source.entries(self.size, one.head.size)
        except UnavailableError:
            if one.source is log:
                raise
        one = replace(one, source=log)
        return one, await log.entries(self.size, one.head.size)

    async def _tiles(self, one: _Shown, leaves: list[bytes], size: int) -> AsyncIterator[Finding]:
        for path, wanted in tiles.changed_tiles(leaves, size):
            try:
                found = await one.source.tile(path)
            except MissingError:
                yield Finding(code="tile-missing", text=path, size=one.head.size)
            except LimitError:
                yield Finding(code="tile-mismatch", text=path, size=one.head.size)
            else:
                if found != wanted:
                    yield Finding(code="tile-mismatch", text=path, size=one.head.size)

    @property
    def _published(self) -> int:
        return self.size if self._state.published is None else self._state.published

    def _shown_by_log(self, size: int) -> Iterator[Finding]:
        """The log shows a tree head of what is kept: another finding if it has shown a larger one."""
        if size < self._published:
            text = f"a tree head of size {size} is shown, after one of size {self._published}"
            yield Finding(code="rolled-back", text=text, size=size)
        elif size > self._published:
            self._write(msgspec.structs.replace(self._state, published=size if size < self.size else None))

    # Tree heads without files.

    def _waiting(self, log: LogReader) -> list[_Shown]:
        """Those of earlier rounds."""
        decoded = [_decoded(note) for note, _ in self._state.unproved]
        return [_Shown(source=log, note=note, head=head) for note, head in decoded]

    def _wait(self, one: _Shown, now: int) -> None:
        """Remember one that is no fork. A witness may sign it again, so it is known by its text."""
        known = self._state.unproved
        texts = [_decoded(note)[0].text for note, _ in known]
        if one.note.text not in texts and len(known) < _MAX_UNPROVED and not self._proof(one.head).exists():
            self._write(msgspec.structs.replace(self._state, unproved=[*known, (_encoded(one.note), now)]))

    def _forget(self, text: str) -> None:
        """No longer wait for the one with this text."""
        known = self._state.unproved
        left = [(note, since) for note, since in known if _decoded(note)[0].text != text]
        if left != known:
            self._write(msgspec.structs.replace(self._state, unproved=left))

    async def _unproved(self, log: LogReader, now: int) -> list[Finding]:
        """Compare those of which the entries are known by now; the others are found wanting after a while."""
        for one in self._waiting(log):
            is_known = one.head.size <= self.size
            if is_known and merkle.tree_head(self._leaves[: one.head.size]) != one.head.root:
                await self._fork(one, now)
            if is_known or self._proof(one.head).exists():
                self._forget(one.note.text)
        findings = []
        for note, since in self._state.unproved:
            size = _decoded(note)[1].size
            # From the future: the clock was set back, and nobody knows how long this has lasted.
            if not 0 <= now - since < _PUBLISHING:
                text = f"nobody has the files of a tree head of size {size}, shown beside one of size {self.size}"
                findings.append(Finding(code="checkpoint-unproved", text=text, size=size))
        return findings

    async def _is_whole(self, one: _Shown) -> bool:
        """Whether the log's files give its tree head: then it is another history, and not a file that is wrong."""
        return await self._other(one) is not None

    async def _other(self, one: _Shown) -> list[bytes] | None:
        try:
            entries = await one.source.entries(0, one.head.size)
        except (PeerError, UnavailableError):
            return None
        leaves = list(map(merkle.leaf_hash, entries))
        return leaves if merkle.tree_head(leaves) == one.head.root else None

    def _proof(self, head: Checkpoint) -> Path:
        """Where a tree head is kept that is of another history."""
        return self._folder / f"fork-{head.size}-{head.root.hex()[:16]}.note"

    async def _fork(self, one: _Shown, now: int) -> None:
        """Keep both tree heads, and name where the two histories part, if the other one can be read."""
        size, head = self.size, one.head
        if head.size == size:
            text = f"two tree heads of size {size}"
        elif head.size < size:
            text = f"the tree head of size {head.size} is not the beginning of the one of size {size}"
        else:
            text = f"the tree head of size {head.size} does not continue the one of size {size}"
        other, first = await self._other(one), None
        if other is not None:
            pairs = zip(self._leaves, other, strict=False)
            first = next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
            text += f"; they part at entry {first}" if first is not None else ""
        path = self._proof(head)
        said = [known for known, at, _ in self._state.forks if at == head.size]
        # Shown again when the log has grown, it is the same fork: there is more to say only if it can be read now.
        if text in said or (
            said and path.exists() and (first is None or any("they part" in known for known in said))
        ):
            return
        write_whole(path, one.note.encode())
        if self._state.note:
            kept = base64.b64decode(self._state.note)
            write_whole(self._folder / f"kept-{size}.note", kept)
        self._write(msgspec.structs.replace(self._state, forks=[*self._state.forks, (text, head.size, now)]))

    # 5. Artifacts.

    async def _artifacts(self, source: LogReader, findings: list[Finding]) -> int:
        good = 0
        for index, entry in self._book.artifacts.items():
            faults = []
            for file in entry.tree.files if entry.tree else ():
                fault = await _fetched(source, file)
                if fault:
                    faults.append(Finding(code=fault, text=f"entry {index}: {file.path}", index=index))
            findings += faults
            good += not faults
        return good


def _encoded(note: Note) -> str:
    return base64.b64encode(note.encode()).decode()


def _decoded(kept: str) -> tuple[Note, Checkpoint]:
    """What `_encoded` made of a tree head.

    Raises:
        ValueError, PeerError: it is something else.
    """
    note = Note.parse(base64.b64decode(kept))
    return note, Checkpoint.parse(note.text)


async def _fetched(source: LogReader, file: File) -> str:
    """What is wrong with a file of a public artifact; nothing if it is there as the log says."""
    try:
        data = await source.get(f"sha256-{file.sha256}", limit=file.size)
    except UnavailableError:
        return "artifact-missing"
    except LimitError:
        return "artifact-mismatch"
    right = len(data) == file.size and sha256(data).hexdigest() == file.sha256
    return "" if right else "artifact-mismatch"
