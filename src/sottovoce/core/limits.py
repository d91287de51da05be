"""Every limit in one frozen value, each with its reason. Nothing unbounded is read from a peer."""

from dataclasses import dataclass
from typing import Final

__all__ = ["LIMITS", "Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    evidence: int = 64 * 1024
    """Protocol 6.1. Four times what the richest platform's evidence takes."""
    cbor_depth: int = 8
    """Evidence nests five deep."""
    json_depth: int = 16
    """Directory documents nest four deep."""
    directory: int = 1024 * 1024
    """Of each file of a directory. The document is an entry of the log, which takes 64 KiB: about 280 hosts."""
    request: int = 256 * 1024
    """1,000 messages of an ordinary chat."""
    answer: int = 64 * 1024
    """A strict maximum (protocol 7): a longer answer is an error of the service."""
    messages: int = 1000
    """Messages in one request."""
    message_text: int = 16 * 1024
    """One message's text; messaging apps stop at about 64 KiB, people far below."""
    draft: int = 4 * 1024
    """A draft to rewrite: about two pages."""
    stream: int = 32 * 1024 * 1024
    """A streamed answer on its way: 10 minutes of frames of 512 bytes, 40 ms apart, are 8 MB before they are sealed."""
    frame: int = 512
    """Protocol 7: every frame has this size."""
    first_flight: int = 16 * 1024
    """A ClientHello with an ML-KEM share is below 2 KiB."""
    link_message: int = 64 * 1024
    """One message between router and CVM."""
    engine_silence: float = 120.0
    """Until the next token; the longest prompt is read in less on two slow cores. An engine that hangs holds up everybody."""
    session_idle: float = 60.0
    """Protocol 2."""
    session_total: float = 600.0
    """Protocol 2."""
    peer_total: float = 660.0
    """Of an orchestrator's session with a back end: it begins before the device's, and the guard has nothing to do while that waits for the model."""
    checkpoint_age: int = 24 * 3600
    """Protocol 6.9."""
    release_life: int = 21 * 24 * 3600
    """Protocol 10."""
    log_entries: int = 1_000_000
    """Of a log, read at one time: 32 MB of leaf hashes. An operator enters a few a day; a tree head may claim 2^63."""
    log_bytes: int = 256 * 1024 * 1024
    """Of a log's entries, all in memory: a directory of the greatest length every day fills it in eleven years."""


LIMITS: Final = Limits()
