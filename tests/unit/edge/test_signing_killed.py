"""Signing a directory, killed at places drawn at random, hundreds of times: what is there is the whole note, or nothing."""

import functools
import random
from pathlib import Path

import directory_kit as kit
from kill_kit import killed_at, places
from sottovoce.cli.directory import directory
from sottovoce.cli.main import Context
from sottovoce.edge.directories import open_directory

TRIES = 240


def sign(folder: Path) -> None:
    words = ["sign", "document", "--key", "key", "--first", "--yes", "--out", "note"]
    places = [str(folder / word) if word in {"document", "key", "note"} else word for word in words]
    directory.main(places, obj=Context(home=folder, world=folder), standalone_mode=False)


def test_a_note_is_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(kit.KEY.secret())
    (tmp_path / "document").write_bytes(kit.directory(kit.TODAY).encode())
    note = tmp_path / "note"
    work = functools.partial(sign, tmp_path)
    total = places(work)
    good = note.read_bytes()
    draw = random.Random(1)  # noqa: S311 - the test must repeat
    kills = seen = 0
    for _ in range(TRIES):
        if draw.random() < 0.5:
            note.unlink(missing_ok=True)
        kills += killed_at(work, draw.randrange(total * 5 // 4))
        if note.exists():
            seen += 1
            # One signature, whoever was killed before.
            assert note.read_bytes() == good
            open_directory(note.read_bytes(), kit.KEY.verifier)
    assert TRIES // 2 < kills < TRIES
    assert TRIES // 4 < seen < TRIES
    sign(tmp_path)
    assert note.read_bytes() == good
    # What a killed process left beside it is gone with the next one, or is no note.
    assert {path.name for path in tmp_path.iterdir() if not path.name.endswith(".part")} == {
        "key",
        "document",
        "note",
    }
