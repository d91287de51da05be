import io
import struct
import zipfile
from pathlib import Path

import pytest

from sottovoce.device.chats import (
    BadArchive,
    ChatError,
    ChatTooLarge,
    EncryptedArchive,
    NotAChat,
    SeveralChats,
    UnknownEncoding,
    UnreadableChat,
    archive,
    import_chat,
    importer,
    read_chat,
)

TEXT = b"[20/11/2026, 18:03:22] Anna: hi"


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        [("_chat.txt", TEXT)],
        [("WhatsApp Chat with Anna.txt", TEXT)],
        [("WhatsApp Chat - Anna/_chat.txt", TEXT)],
        [("00000001-notes.txt", b"x"), ("_chat.txt", TEXT), ("00000002-PHOTO.jpg", b"x")],
        [("WhatsApp Chat with Anna.txt", TEXT), ("todo.txt", b"x")],
        [("Chat de WhatsApp con Anna.txt", TEXT), ("__MACOSX/._Chat de WhatsApp con Anna.txt", b"x")],
        [("anything.txt", TEXT), (".hidden.txt", b"x"), ("folder.txt/", b"")],
    ],
)
def test_the_chat_is_found(members: list[tuple[str, bytes]]) -> None:
    chat = import_chat(zipped(*members), name="WhatsApp Chat - Anna.zip")
    assert (chat.title, len(chat.messages)) == ("Anna", 1)


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ([], BadArchive),
        ([("photo.jpg", b"x")], BadArchive),
        ([("inner.zip", zipped(("_chat.txt", TEXT)))], BadArchive),
        ([("a.txt", TEXT), ("b.txt", TEXT)], SeveralChats),
        ([("a/_chat.txt", TEXT), ("b/_chat.txt", TEXT)], SeveralChats),
        ([("../_chat.txt", TEXT)], BadArchive),
        ([("_chat.txt", TEXT), ("a/../../x.jpg", b"x")], BadArchive),
        ([("/etc/_chat.txt", TEXT)], BadArchive),
        ([("..\\_chat.txt", TEXT)], BadArchive),
        ([("C:\\_chat.txt", TEXT)], BadArchive),
        ([("_chat.txt", b"no chat at all")], NotAChat),
        ([("_chat.txt", b"\xff\xff")], UnknownEncoding),
    ],
)
def test_archives_that_are_refused(members: list[tuple[str, bytes]], error: type[ChatError]) -> None:
    with pytest.raises(error) as caught:
        import_chat(zipped(*members), name="x.zip")
    assert type(caught.value) is error
    assert caught.value.hint


def test_encrypted() -> None:
    data = bytearray(zipped(("_chat.txt", TEXT)))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(signature) + offset
        data[at] |= 1
    with pytest.raises(EncryptedArchive, match="password"):
        import_chat(bytes(data), name="x.zip")


def test_a_bomb_is_stopped_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_CHAT", 100_000)
    with pytest.raises(ChatTooLarge):
        import_chat(zipped(("_chat.txt", bytes(100_001))), name="x.zip")


def test_a_bomb_that_lies_about_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_CHAT", 100_000)
    data = zipped(("_chat.txt", bytes(1_000_000)))
    lying = data.replace(struct.pack("<I", 1_000_000), struct.pack("<I", 50))
    with pytest.raises((ChatTooLarge, BadArchive)):
        import_chat(lying, name="x.zip")


def test_too_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MAX_MEMBERS", 3)
    with pytest.raises(ChatTooLarge):
        import_chat(zipped(*((f"{number}.jpg", b"") for number in range(4))), name="x.zip")


def test_every_byte_cut_off_or_flipped_is_a_typed_error_or_the_chat() -> None:
    data = zipped(("_chat.txt", TEXT))
    for at in range(len(data)):
        flipped = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        for hostile in (data[:at], flipped):
            try:
                assert import_chat(hostile, name="x.zip").messages[0].sender == "Anna"
            except ChatError:
                continue


def test_compression_that_python_does_not_have() -> None:
    data = bytearray(zipped(("_chat.txt", TEXT)))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = data.index(signature) + offset
        data[at : at + 2] = struct.pack("<H", 97)
    with pytest.raises(BadArchive):
        import_chat(bytes(data), name="x.zip")


def test_too_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importer, "MAX_CHAT", 40)
    monkeypatch.setattr(importer, "_MAX_ARCHIVE", 40)
    path = tmp_path / "x"
    for data in (TEXT + bytes(41), zipped(("_chat.txt", TEXT))):
        path.write_bytes(data)
        with pytest.raises(ChatTooLarge):
            read_chat(path)
    with pytest.raises(ChatTooLarge):
        import_chat(TEXT + b"x" * 41, name="x")


def test_read_chat(tmp_path: Path) -> None:
    path = tmp_path / "WhatsApp Chat with Anna.txt"
    path.write_bytes(TEXT)
    assert read_chat(path).title == "Anna"
    path = tmp_path / "WhatsApp Chat - Ben.zip"
    path.write_bytes(zipped(("_chat.txt", TEXT)))
    assert read_chat(path).title == "Ben"


def test_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("a\0b"), Path("/dev/null")):
        with pytest.raises(UnreadableChat):
            read_chat(path)


@pytest.mark.parametrize(
    "data", [b"", b"\xe9", b"caf\xe9 20/11/2026", b"20/11/2026, 18:03 - A\0: x", b"\xff\xfe\x00\xd8"]
)
def test_what_is_no_text(data: bytes) -> None:
    with pytest.raises((UnknownEncoding, NotAChat)) as caught:
        import_chat(data, name="x.txt")
    assert caught.value.code == ("chat.encoding" if data else "chat.not-a-chat")
