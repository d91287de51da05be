"""Exit codes: one for each thing that a script may want to tell apart. The table is docs/exit-codes.md."""

from typing import Final

from sottovoce.core.errors import SottovoceError, UnavailableError

__all__ = ["EXIT_CODES", "INTERRUPTED", "exit_code"]

INTERRUPTED: Final = 130

EXIT_CODES: Final = {
    "error": (1, "an error without a code of its own"),
    "usage": (2, "wrong use of the command"),
    "config": (2, "a configuration or state file is missing or wrong"),
    "refused.not-enabled": (3, "private processing is off; nothing was sent"),
    "refused.chat-private": (4, "the chat is marked as private; nothing was sent"),
    "verification": (5, "a check of the evidence failed; nothing was sent"),
    "unavailable.relay": (10, "no relay could be reached"),
    "unavailable.gateway": (11, "the gateway, or the router behind it, gave no answer"),
    "unavailable.orchestrator": (12, "no CVM gave an answer"),
    "unavailable.issuer": (13, "the issuer gave no answer"),
    "unavailable.directory": (14, "no mirror of the directory could be reached"),
    "unavailable": (15, "another party could not be reached"),
    "directory": (
        20,
        "the directory is expired, not logged, differs between two ways, or would lock devices out",
    ),
    "wallet.empty": (21, "no token left"),
    "token": (22, "a token or a token key was refused"),
    "quota": (23, "the account has had its tokens for today"),
    "limit": (24, "more than the limits allow"),
    "chat": (25, "the file is not an exported chat"),
    "model": (26, "the language model is missing or wrong"),
    "disk": (27, "the disk is full or a file cannot be written"),
    "service": (28, "the service answered with an error"),
    "refused": (29, "a party refused"),
    "peer": (30, "a party sent something that is not allowed"),
}
"""Code prefix → (exit code, meaning); the longest prefix counts."""


def exit_code(error: SottovoceError) -> int:
    """The exit code for `error`."""
    code = error.code
    if isinstance(error, UnavailableError):
        code = f"unavailable.{error.party}"
    while code and code not in EXIT_CODES:
        code = code.rpartition(".")[0]
    return EXIT_CODES[code or "error"][0]
