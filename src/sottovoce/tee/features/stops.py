"""Where an answer ends: at a text that it was told to stop at, even if that comes in pieces."""

from collections.abc import Sequence

__all__ = ["StopAt"]


class StopAt:
    """Passes text on until one of `stops` has come; with `keep`, that one too. What may be the beginning of one is held back."""

    def __init__(self, stops: Sequence[str], *, keep: bool = False) -> None:
        self._stops = tuple(stops)
        self._keep = keep
        self._held = ""
        self.stopped = False

    def feed(self, piece: str) -> str:
        """What can be passed on, now that `piece` has come."""
        if self.stopped:
            return ""
        text = self._held + piece
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            at, stop = min(found)
            self.stopped, self._held = True, ""
            return text[: at + len(stop)] if self._keep else text[:at]
        begun = max((_begun(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - begun :]
        return text[: len(text) - begun]

    def end(self) -> str:
        """What was held back: nothing more comes."""
        held, self._held = self._held, ""
        return held


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
