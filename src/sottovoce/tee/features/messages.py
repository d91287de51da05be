"""A message as the features see it."""

from dataclasses import dataclass

__all__ = ["Message"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Message:
    """One message of a chat. `id` is the device's own name for it; `time` is as the device wrote it, or empty."""

    id: str
    sender: str
    text: str
    time: str = ""
