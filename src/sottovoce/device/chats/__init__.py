"""Importer for chats exported by WhatsApp from Android and iOS."""

from sottovoce.device.chats.errors import (
    BadArchive,
    ChatError,
    ChatTooLarge,
    EncryptedArchive,
    NotAChat,
    SeveralChats,
    UnknownEncoding,
    UnreadableChat,
)
from sottovoce.device.chats.importer import import_chat, read_chat
from sottovoce.device.chats.model import Chat, Kind, Message, chat_id, unread

__all__ = [
    "BadArchive",
    "Chat",
    "ChatError",
    "ChatTooLarge",
    "EncryptedArchive",
    "Kind",
    "Message",
    "NotAChat",
    "SeveralChats",
    "UnknownEncoding",
    "UnreadableChat",
    "chat_id",
    "import_chat",
    "read_chat",
    "unread",
]
