"""The weights of `ranking.FEATURES`, written by `python -m evaluation fit`."""

from typing import Final

__all__ = ["BIAS", "WEIGHTS"]

BIAS: Final = -5.1328
WEIGHTS: Final = (
    0.4666,  # characters
    0.4809,  # words
    1.7244,  # place
    0.8441,  # numbers
    0.1354,  # cues
    0.1916,  # central
    0.1459,  # new
    -1.7020,  # laughter
    0.2870,  # goes on
    -0.0752,  # pause
    0.5602,  # reader
    0.2601,  # name
    0.6049,  # day
    0.3984,  # time
    0.4149,  # open
    -0.7370,  # small talk
    0.0550,  # short
    -1.3155,  # change
    1.3389,  # decision
    -0.0518,  # commitment
    0.4354,  # request
    0.9943,  # acceptance
)
