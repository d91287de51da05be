"""Why a file could not be imported. No message of these holds a word of the chat."""

from sottovoce.core.errors import SottovoceError

__all__ = [
    "BadArchive",
    "ChatError",
    "ChatTooLarge",
    "EncryptedArchive",
    "NotAChat",
    "SeveralChats",
    "UnknownEncoding",
    "UnreadableChat",
]


class ChatError(SottovoceError):
    """The file cannot be imported as a chat."""

    code = "chat"


class NotAChat(ChatError):  # noqa: N818 - it says what the file is
    """Nothing in the file looks like a message of an exported chat."""

    code = "chat.not-a-chat"


class UnknownEncoding(ChatError):  # noqa: N818 - as above
    """The text is neither UTF-8 nor UTF-16 with a byte order mark."""

    code = "chat.encoding"


class ChatTooLarge(ChatError):  # noqa: N818 - as above
    """The file, or the chat inside an archive, is above the size limit."""

    code = "chat.too-large"


class UnreadableChat(ChatError):  # noqa: N818 - as above
    """The file is missing, is no file, or may not be read."""

    code = "chat.unreadable"


class BadArchive(ChatError):  # noqa: N818 - as above
    """The zip file is damaged, holds no chat, or holds names that no export has."""

    code = "chat.archive"


class EncryptedArchive(BadArchive):
    """The zip file is protected with a password."""

    code = "chat.archive.encrypted"


class SeveralChats(BadArchive):
    """The zip file holds more than one text that could be the chat."""

    code = "chat.archive.several"
