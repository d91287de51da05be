"""Somebody in the chat writes for the machine that will summarise it (part C)."""

from typing import Final

from sottovoce.attacks.attack import Attack

__all__ = ["ATTACK"]

ATTACK: Final = Attack(
    name="hostile-messages",
    row="C",
    who="anybody who writes in the user's chats",
    tries="210 attacks of ten kinds: orders in messages, names and forwarded texts, split, encoded, in other languages, false ends of the chat, links, false urgency",
    stopped_by=("filter", "guard", "quotes"),
    tested="evaluation/attacking.py: each attack with and without each defence, with the model that is used (docs/quality.md); it takes an hour",
)
