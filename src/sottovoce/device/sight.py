"""Who could see what of a session: for the terminal and for the app, in the same words."""

from typing import Final, NamedTuple

__all__ = ["PARTIES", "Party"]


class Party(NamedTuple):
    """One of those that a session passes, what it could see and what it could not."""

    name: str
    could: str
    could_not: str


PARTIES: Final = (
    Party("your device", "everything of yours", "-"),
    Party("relay", "your IP address, a size class, a time", "content, tokens, which machine served you"),
    Party("issuer", "your account, how many tokens it got", "any token, when one is used"),
    Party("gateway", "that a valid token was spent", "your account, your IP address, content"),
    Party("host router", "encrypted records, two candidate hosts", "who you are, content"),
    Party(
        "orchestrator, predictor, guard",
        "the messages, while the session lived",
        "who you are; they keep nothing",
    ),
    Party("directory mirror", "that somebody fetched a public file", "everything else"),
    Party("log, witnesses", "public entries", "everything else"),
)
