"""A hostile export takes time by its length, not by its length squared."""

import io
import struct
import zipfile
from collections.abc import Callable

import pytest

from growth import seconds
from sottovoce.device.chats import ChatTooLarge, archive, import_chat, systemlines, titles

LRM = "\u200e"
TEXT = b"20/11/2026, 18:03 - Anna: hi"


def grows_with(work: Callable[[int], Callable[[], object]], size: int) -> float:
    """How many times as long eight times the size takes."""
    short, long = seconds(work(size), work(8 * size))
    return long / short


LINES: dict[str, Callable[[int], str]] = {
    "names with colons": lambda at: f"20/11/2026, 18:03 - n{at // 3}: x: hello\n",
    "names": lambda at: f"20/11/2026, 18:03 - n{at}: hello\n",
    "dates": lambda at: f"{at % 28 + 1}/{at % 12 + 1}/{1900 + at % 8000}, 18:03 - Anna: hello\n",
    "dates that do not exist": lambda at: (
        f"{at % 100}/{at % 90 + 10}/2026, {at % 100}:{at % 90 + 10} - A: x\n"
    ),
    "other forms": lambda at: f"[20{'./-'[at % 3]}11{'./-'[at % 3]}2026, 18:03:2{at % 10}] Anna: hello\n",
    "lines of one message": lambda _: "word\n",
    "one line": lambda _: "word ",
    "colons": lambda _: ": x",
    "open brackets": lambda _: "<",
    "attachments": lambda _: "<a: 12345678-x",
    "marks": lambda _: f"{LRM}<",
    "edited": lambda _: "<This message was edited",
    "places": lambda _: "location: https://",
}


@pytest.mark.parametrize("what", LINES)
def test_chats(what: str) -> None:
    def work(size: int) -> Callable[[], object]:
        parts = "".join(map(LINES[what], range(size)))
        data = TEXT + (b"\n" if parts.endswith("\n") else b"") + parts.encode() + b">"
        return lambda: import_chat(data, name="x.txt")

    assert grows_with(work, 600) < 24


@pytest.mark.parametrize(
    ("begins", "part", "ends"),
    [
        ("location:", " ", "xhttps://y"),
        ("location:x", " ", "xhttps://y"),
        ("location:", " (", "https://y"),
        ("location:", "(a) ", "https://y"),
        ("location:", ": ", "https://y"),
    ],
)
def test_places(begins: str, part: str, ends: str) -> None:
    def work(size: int) -> Callable[[], object]:
        text = begins + (part * size)[:size] + ends
        return lambda: [systemlines.place(text) for _ in range(30)]

    assert grows_with(work, 58) < 24


@pytest.mark.parametrize("part", ["_", "whatsapp_", "whatsapp chat with ", "के साथ "])
def test_titles(part: str) -> None:
    def work(size: int) -> Callable[[], object]:
        name = "whatsapp_" + (part * size)[:size] + "x"
        return lambda: titles.title_of(name)

    assert grows_with(work, 8_000) < 24


def zipped(count: int, *, stated: int, zip64: bool = False, extra: bytes = b"") -> bytes:
    """A zip file of `count` empty members that states another number of them."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, len(extra), 0, 0, 0, 0, 0)
    directory = (entry + b"a" + extra) * count
    head = b"PK\3\4" + bytes(26)
    end = b""
    if zip64:
        end = struct.pack(
            "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, stated, stated, len(directory), len(head)
        )
        end += struct.pack("<4sLQL", b"PK\6\7", 0, len(head) + len(directory), 1)
        stated = 0xFFFF
    end += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, stated, stated, len(directory), len(head), 0)
    return head + directory + end


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the members that zipfile has made objects of."""
    names: list[str] = []

    class Counted(zipfile.ZipInfo):
        __slots__ = ()

        def __init__(self, filename: str) -> None:
            names.append(filename)
            super().__init__(filename)

    monkeypatch.setattr(zipfile, "ZipInfo", Counted)
    return names


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("stated", [0, 1, 70_000 & 0xFFFF])
def test_too_many_members_are_refused_unbuilt_whatever_number_is_stated(
    built: list[str],
    stated: int,
    zip64: bool,
) -> None:
    with pytest.raises(ChatTooLarge, match="too many files"):
        import_chat(zipped(70_000, stated=stated, zip64=zip64), name="x.zip")
    assert built == []


def test_a_directory_that_is_too_large_is_refused_unread(
    built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_MAX_DIRECTORY", 1_000)
    with pytest.raises(ChatTooLarge, match="too many files"):
        import_chat(zipped(2, stated=2, extra=b"\xff\xff\0\0" * 200), name="x.zip")
    assert built == []


def test_as_many_members_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        # What is in a member is no matter of the directory.
        file.writestr("_chat.txt", TEXT + b" PK\1\2" * 3 + b" " * 5_000)
        file.writestr("a.jpg", b"")
    monkeypatch.setattr(archive, "_MAX_MEMBERS", 2)
    monkeypatch.setattr(archive, "_MAX_DIRECTORY", 200)
    assert import_chat(buffer.getvalue(), name="x.zip").messages[0].text == "hi PK PK PK"
