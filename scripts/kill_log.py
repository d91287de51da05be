"""Kill a log and its witnesses with SIGKILL, at each step of append, sign and publish, and see what is left.

    python scripts/kill_log.py --kills 500

A child process runs the log's sequencer and two witnesses on a folder. Before and after every system call that changes
the folder, and before and after every signature, is a place to stop: the child kills itself at one of them, drawn by
lot. It writes what it signs before it signs, and what it acknowledges, to files of their own. After every kill, and over
all of them:

- nothing was signed twice at one size, neither by the log nor by a witness;
- every tree head that was signed is a prefix of the log as it is;
- every entry that was acknowledged is at its index;
- no immutable file has changed, and none that the published checkpoint needs is missing.

A kill leaves what the kernel holds; a power cut, which does not, is not simulated. HTTP is not part of it.
`--break` runs a log that does something wrong, to show that the loop sees it.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sottovoce.core.errors import SottovoceError
from sottovoce.thirdparty.sequencer import Sequencer
from sottovoce.thirdparty.stores import Folder
from sottovoce.thirdparty.witness import FollowedLog, parse_request
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.note import COSIGNATURE, Note, NoteSignature, SigningKey
from sottovoce.tlog.tree import Tree

ORIGIN: Final = "log.example/killed"
BATCHES: Final = 4
BREAKS: Final = ("record", "acknowledge")


class Child:
    """What is killed."""

    def __init__(
        self,
        folder: Path,
        log: SigningKey,
        witnesses: list[SigningKey],
        draw: random.Random,
        *,
        hasty: bool = False,
    ) -> None:
        self._folder = folder
        self._hasty = hasty
        self._log = log
        self._witnesses = witnesses
        self._draw = draw
        self._left = -1

    def step(self, name: str) -> None:
        """A place to stop."""
        if self._left == 0:
            append_line(self._folder / "kills", name)
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def run(self, left: int) -> None:
        """Append, sign and publish until `left` places to stop are behind."""
        self._left = left
        self._watch()
        sequencer = Sequencer(Folder(self._folder / "log"), self._log, ORIGIN)
        sequencer.hold()
        followed = [
            FollowedLog(ORIGIN, [self._log.verifier], state=self._folder / f"state-{number}", key=key)
            for number, key in enumerate(self._witnesses)
        ]
        for _ in range(BATCHES):
            count = self._draw.choice((1, 2, 7, 90))
            batch = [self._draw.randbytes(self._draw.randrange(16, 60)) for _ in range(count)]
            if self._hasty:
                self._told(batch, [sequencer.tree.size + number for number in range(count)])
            indexes = sequencer.add(batch)
            self._told(batch, indexes)
            sequencer.cosign([self._ask(one, sequencer) for one in followed])
            sequencer.publish()

    def _told(self, batch: list[bytes], indexes: list[int]) -> None:
        self.step("before acknowledging")
        told = [
            (base64.b64encode(entry).decode(), index) for entry, index in zip(batch, indexes, strict=True)
        ]
        append_line(self._folder / "told", json.dumps(told))
        self.step("after acknowledging")

    def _ask(self, followed: FollowedLog, sequencer: Sequencer) -> NoteSignature:
        record = followed.record()
        old = record[0].size if record else 0
        lines = [base64.b64encode(node).decode() for node in sequencer.tree.consistency_proof(old)]
        head = Note(text=sequencer.note.text, signatures=sequencer.note.signatures[:1])
        request = "\n".join([f"old {old}", *lines, "", ""]).encode() + head.encode()
        line = followed.cosign(*parse_request(request), now=1_800_000_000)
        return Note.parse(head.text.encode() + b"\n" + line.encode()).signatures[0]

    def _watch(self) -> None:
        """Put a place to stop before and after everything that counts."""
        for name in ("fsync", "link", "replace", "unlink"):
            setattr(os, name, self._stopping(name, getattr(os, name)))
        for kind in ("sign", "cosign"):
            setattr(SigningKey, kind, self._signing(kind, getattr(SigningKey, kind)))

    def _stopping(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def stopping(*arguments: Any, **named: Any) -> Any:
            self.step(f"before {name}")
            result = call(*arguments, **named)
            self.step(f"after {name}")
            return result

        return stopping

    def _signing(self, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def signing(key: SigningKey, text: str, **named: Any) -> Any:
            self.step(f"before {kind}")
            append_line(self._folder / "signed", json.dumps([key.name, text]))
            result = call(key, text, **named)
            self.step(f"after {kind}")
            return result

        return signing


def append_line(path: Path, line: str) -> None:
    """One write: a kill leaves the whole line or none of it."""
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(opened, line.encode() + b"\n")
    os.close(opened)


def lines(path: Path) -> list[Any]:
    """The lines of a file of JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Broken(Exception):  # noqa: N818 - what the loop looks for
    """Something that must never be."""


class Inspection:
    """What is true after every kill."""

    def __init__(self, folder: Path, log: SigningKey) -> None:
        self._folder = folder
        self._log = log
        self._files: dict[Path, bytes] = {}
        self.signed: dict[tuple[str, int], str] = {}

    def after_kill(self) -> None:
        """Look at what is there, without touching it."""
        for name, text in lines(self._folder / "signed"):
            head = Checkpoint.parse(text)
            if self.signed.setdefault((name, head.size), text) != text:
                raise Broken(f"{name} has signed two tree heads of {head.size} entries")
        for path in (self._folder / "log/tile").rglob("*"):
            if path.is_file() and path.suffix != ".new":
                digest = hashlib.sha256(path.read_bytes()).digest()
                if self._files.setdefault(path, digest) != digest:
                    raise Broken("an immutable file has changed")
        self._published()

    def _published(self) -> None:
        path = self._folder / "log/checkpoint"
        if not path.exists():
            return
        note = Note.parse(path.read_bytes())
        head, log = Checkpoint.parse(note.text), self._folder / "log"
        if not note.signed_by(self._log.verifier):
            raise Broken("the published checkpoint is not signed")
        found = Tree()
        for index in range(-(-head.size // tiles.WIDTH)):
            width = min(tiles.WIDTH, head.size - index * tiles.WIDTH)
            bundle = tiles.decode_bundle((log / tiles.tile_path("entries", index, width)).read_bytes())
            for entry in bundle:
                found.append(merkle.leaf_hash(entry))
        if found.root() != head.root:
            raise Broken("the published checkpoint is not that of the published entries")
        for name, tile in found.changed_tiles(head.size // tiles.WIDTH * tiles.WIDTH):
            if (log / name).read_bytes() != tile:
                raise Broken("a published tile is not that of the published entries")

    def at_the_end(self) -> tuple[int, int]:
        """Open the log once more; how many entries were acknowledged, and how many there are."""
        sequencer = Sequencer(Folder(self._folder / "log"), self._log, ORIGIN)
        for (name, size), text in self.signed.items():
            if size > sequencer.tree.size or Checkpoint.parse(text).root != sequencer.tree.root(size):
                raise Broken(f"{name} has signed what the log does not continue")
        told = [item for batch in lines(self._folder / "told") for item in batch]
        for encoded, index in told:
            leaf = merkle.leaf_hash(base64.b64decode(encoded))
            if index >= sequencer.tree.size or sequencer.tree.leaf(index) != leaf:
                raise Broken("an acknowledged entry is lost")
        return len(told), sequencer.tree.size


def sabotage() -> None:
    """Make the log sign a batch before its record is written."""
    original = Sequencer._record  # noqa: SLF001

    def late(self: Sequencer, record: Any) -> None:
        self._key.sign(record.head.encode())
        original(self, record)

    Sequencer._record = late  # type: ignore[method-assign]  # noqa: SLF001


def run(kills: int, folder: Path, seed: int, *, broken: str = "") -> Counter[str]:
    """Kill `kills` times; where it was killed, and how often.

    Raises:
        Broken: something is not as it must be.
    """
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    log = SigningKey.generate(ORIGIN)
    witnesses = [SigningKey.generate(f"witness.example/{number}", COSIGNATURE) for number in range(2)]
    inspection = Inspection(folder, log)
    finished = 0
    for _ in range(kills):
        seed, left = draw.getrandbits(64), draw.randrange(200)
        child = os.fork()
        if not child:
            code = 1
            try:
                if broken == "record":
                    sabotage()
                hasty = broken == "acknowledge"
                Child(folder, log, witnesses, random.Random(seed), hasty=hasty).run(left)  # noqa: S311 - as above
                code = 0
            finally:
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in {0, -signal.SIGKILL}:
            raise Broken("the log did not go on")
        finished += status == 0
        inspection.after_kill()
    told, size = inspection.at_the_end()
    where = Counter((folder / "kills").read_text().splitlines())
    print(f"kills: {sum(where.values())} (and {finished} runs that ended before their kill came)")
    for name, count in sorted(where.items()):
        print(f"  {name}: {count}")
    print(f"entries in the log: {size}; acknowledged: {told}; lost: 0")
    print(f"tree heads signed: {len(inspection.signed)}; two of one size: 0; immutable files changed: 0")
    return where


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--break", choices=BREAKS, default="", dest="broken")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            run(arguments.kills, Path(folder), arguments.seed, broken=arguments.broken)
        except (Broken, SottovoceError) as error:
            print(f"BROKEN: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
