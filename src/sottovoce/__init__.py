"""Private AI for messages, processed where nobody can read them.

    from sottovoce import Client, SyncClient, read_chat

What they give and raise is described in `sottovoce.device.client`. They are imported when they are first used, so that importing this package takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sottovoce.device.chats import read_chat
    from sottovoce.device.client import Client, Unread
    from sottovoce.device.sync_client import SyncClient

__version__ = "0.1.0"
__all__ = ["Client", "SyncClient", "Unread", "__version__", "read_chat"]

_HOMES = {
    "Client": "sottovoce.device.client",
    "SyncClient": "sottovoce.device.sync_client",
    "Unread": "sottovoce.device.client",
    "read_chat": "sottovoce.device.chats",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
