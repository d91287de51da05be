"""Errors in words for a reader of the app: what happened, what to do, and what was and was not sent."""

from typing import Final

from sottovoce.core.errors import SottovoceError

__all__ = ["FAULT", "NOT_SENT", "SENT", "UNSURE", "in_words"]

NOT_SENT: Final = "Nothing was sent: no message, no draft."
SENT: Final = "The messages had been sent to the machine that was verified; it forgets them with the session."
UNSURE: Final = "A draft or messages may have been sent to the machine that was verified; it forgets them with the session."

FAULT: Final = {
    "what": "The app itself failed.",
    "hint": "This is a fault; please report it.",
    "code": "error",
}
_HERE: Final = {
    "refused.not-enabled": "Read what it means, and turn it on, under Settings.",
    "refused.chat-private": "Advanced Chat Privacy is on for this chat. You can turn it off in the chat's menu.",
    "wallet.empty": "Anonymous tokens are fetched now and then, ahead of use, so that nobody can link them to you. Try again in some minutes.",
    "quota": "Your account has had all its tokens for today. Tomorrow there are new ones.",
    "usage.report": "It may have been deleted.",
    "config": "Is this device enrolled? `sottovoce up` enrols it in a test world.",
}
"""What to do, by an error's code, where the app has another way than the command line."""
_FAMILIES: Final = {
    "verification": "That machine could not prove what it runs. See below which check failed; trying again draws other machines.",
    "unavailable": "Check the connection and try again.",
    "service": "Try again.",
}
"""The same for every code that begins so."""


def in_words(error: SottovoceError) -> dict[str, str]:
    """`error` for the page: what, what to do, and its stable code."""
    family = _FAMILIES.get(error.code.partition(".")[0])
    hint = _HERE.get(error.code) or family or _sentence(error.hint)
    return {"what": _sentence(str(error)), "hint": hint, "code": error.code}


def _sentence(text: str) -> str:
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
