"""How long a CVM takes for an answer, and so in which class of time the answer ends (decision record 26).

The seconds are those of the packaged default model on two cores, and of nothing else: a GPU would take fewer and fill fewer classes. Measured on 28 November
2026: the speeds in one process, in runs that hardly waited for other programs; how much is read and written from what the model was asked and said for the evaluation set's
61 test chats and 120 drafts (`evaluation/`). Nobody waits for others, and no host is slower than another: that would only blur what classes tell.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sottovoce.core.frames import FRAME, stream_class
from sottovoce.core.limits import LIMITS
from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.sections import sections

__all__ = ["answer_class", "rewrite_seconds", "summary_seconds"]

_Seconds = NDArray[np.float64]

_CADENCE: Final = 0.040
"""Seconds from frame to frame, as in the settings unless they say otherwise (`tee/settings.py`)."""
_FOUND: Final = 0.0025
"""Seconds a message to choose quotes."""
_READ: Final = 2.0
"""Seconds until a headline's first token: some 150 are read (12 to 15 ms each)."""
_PASSED: Final = 0.25
"""Seconds more until a first word has come through three CVMs (`make bench`, engine)."""
_WRITTEN: Final = 0.1
"""Seconds a token, 95 to 104 ms."""
_HEADLINE: Final = 17.0, 0.4
"""Tokens of a headline until its end, or until the guard ended it: the median, and the deviation of their logarithm. 84 headlines had 7 to 49."""
_LONGEST: Final = 48
_DRAFT_READ: Final = 0.45
"""Seconds of a try at a draft before a byte of the draft is read: its style, and the first token's choice."""
_TOKENS: Final = 0.3
"""Tokens a byte of a draft, and of a suggestion, which is as long."""
_DRAFT_TOKEN: Final = 0.011
"""Seconds to read one more token of a draft."""
_TRIES: Final = (3, 4, 5, 6), (5 / 120, 5 / 120, 3 / 120, 107 / 120)
"""The model's tries for three suggestions: of 120 drafts so many took so many."""


def summary_seconds(messages: NDArray[np.int64], rng: np.random.Generator, *, written: bool) -> _Seconds:
    """Seconds for summaries of so many messages; `written`: in a language in which the model makes a headline."""
    found: _Seconds = _FOUND * messages.astype(np.float64)
    if not written:
        return found
    middle, spread = _HEADLINE
    each = rng.lognormal(np.log(middle), spread, (len(messages), _most())).clip(1, _LONGEST)
    count = np.asarray([_headlines(int(number)) for number in messages], dtype=np.int64)
    made = np.arange(_most()) < count[:, None]
    seconds: _Seconds = found + (made * (_READ + _PASSED + _WRITTEN * each)).sum(axis=1)
    return seconds


def rewrite_seconds(draft: NDArray[np.float64], rng: np.random.Generator, *, written: bool) -> _Seconds:
    """Seconds for suggestions for drafts of so many bytes; `written` as above: the model is asked for nothing in other languages."""
    if not written:
        return np.zeros(len(draft))
    count, share = _TRIES
    tries = rng.choice(count, len(draft), p=share)
    seconds: _Seconds = tries * (_DRAFT_READ + _TOKENS * draft * (_DRAFT_TOKEN + _WRITTEN))
    return seconds


def answer_class(seconds: float) -> int:
    """Bytes of the frames that leave for an answer that takes so long, to the end of its class."""
    return _class(int(-(-seconds // _CADENCE)))


@lru_cache(maxsize=4096)
def _class(frames: int) -> int:
    return stream_class(frames * FRAME)


@lru_cache(maxsize=1024)
def _headlines(messages: int) -> int:
    """One; of a long chat one a section, and one of these."""
    parts = len(sections([Message(id="", sender="", text="")] * messages))
    return 1 if parts == 1 else parts + 1


@lru_cache(maxsize=1)
def _most() -> int:
    return _headlines(LIMITS.messages)
