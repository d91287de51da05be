"""The chat inside a zip export. Nothing is written to disk: names only serve to find the one text."""

import re
import struct
import zipfile
import zlib
from typing import IO, Final

from sottovoce.device.chats.errors import BadArchive, ChatTooLarge, EncryptedArchive, SeveralChats

__all__ = ["MAX_CHAT", "is_zip", "read_text_member"]

MAX_CHAT: Final = 64 * 1024 * 1024
"""Bytes of text: about a million messages."""
_MAX_MEMBERS: Final = 50_000
"""Exports stop at 10,000 messages when they have media."""
_MAX_DIRECTORY: Final = 16 * 1024 * 1024
"""Bytes: more than 300 for each of so many members."""
_ENTRY: Final = b"PK\x01\x02"
_SIGNATURES: Final = (b"PK\x03\x04", b"PK\x05\x06")
_ENCRYPTED: Final = 0x1
_COMPRESSIONS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises on hostile input.
_HOSTILE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
)
_CHAT_NAME: Final = re.compile(r"_chat\.txt|.*whatsapp.*\.txt", re.IGNORECASE | re.DOTALL)


def is_zip(head: bytes) -> bool:
    """Whether a file that begins with `head` (at least 4 bytes) is a zip archive."""
    return head.startswith(_SIGNATURES)


def read_text_member(file: IO[bytes]) -> tuple[str, bytes]:
    """The name (without folders) and the bytes of the chat in the zip archive `file`.

    Raises:
        BadArchive: damaged, without a chat, or with names that point out of it.
        EncryptedArchive: protected with a password.
        SeveralChats: more than one text could be the chat.
        ChatTooLarge: too many members, or a chat of more than `MAX_CHAT` bytes.
    """
    try:
        guarded = _Guarded(file)
        with zipfile.ZipFile(guarded) as archive:
            guarded.listing = False
            member = _find(archive.infolist())
            return member.filename.rpartition("/")[2], _read(archive, member)
    except _HOSTILE:
        raise BadArchive("the zip file is damaged", hint="export the chat again") from None


class _Guarded:
    """A zip file whose directory is refused before `zipfile` makes an object of each entry.

    `zipfile` goes by the directory's size. The number of entries that the archive states beside it can be wrong, by
    malice or because it has 16 bits; so the entries themselves are counted, in what `zipfile` reads.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self.listing = True

    def read(self, size: int = -1) -> bytes:
        """What the file has next.

        Raises:
            ChatTooLarge: it is a directory that is too large.
        """
        if not self.listing:
            return self._file.read(size)
        if size > _MAX_DIRECTORY:
            raise _too_many()
        data = self._file.read(size)
        if data.count(_ENTRY) > _MAX_MEMBERS:
            raise _too_many()
        return data


def _too_many() -> ChatTooLarge:
    return ChatTooLarge("the zip file holds too many files", hint="export the chat without media")


def _find(members: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    if any(_points_outside(member.filename) for member in members):
        raise BadArchive("the zip file holds names that no export has", hint="is it an export of a chat?")
    texts = [member for member in members if _is_text(member.filename)]
    # An attached document can be a text as well; the chat's own name tells them apart.
    named = [member for member in texts if _CHAT_NAME.fullmatch(member.filename.rpartition("/")[2])]
    candidates = named or texts
    if not candidates:
        raise BadArchive(
            "the zip file holds no chat", hint="it should hold _chat.txt or “WhatsApp Chat with ….txt”"
        )
    if len(candidates) > 1:
        raise SeveralChats(
            "the zip file holds more than one chat", hint="unpack it and import one text at a time"
        )
    return candidates[0]


def _points_outside(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0]


def _is_text(name: str) -> bool:
    folder, _, base = name.rpartition("/")
    hidden = base.startswith(".") or folder.partition("/")[0] == "__MACOSX"
    return base.lower().endswith(".txt") and not hidden


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.flag_bits & _ENCRYPTED:
        raise EncryptedArchive(
            "the zip file is protected with a password", hint="unpack it and import the text"
        )
    if member.compress_type not in _COMPRESSIONS:
        raise BadArchive(
            "the zip file is compressed in a way that no export is", hint="export the chat again"
        )
    with archive.open(member) as file:
        # The size that the archive states is not to be trusted: what comes out is counted.
        data = file.read(MAX_CHAT + 1)
    if len(data) > MAX_CHAT:
        raise ChatTooLarge(
            "the chat in the zip file is above the size limit", hint=f"at most {MAX_CHAT} bytes"
        )
    return data
