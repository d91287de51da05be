"""The weights of `ranking.FEATURES`, written by `python -m evaluation fit`."""

from typing import Final

__all__ = ["BIAS", "WEIGHTS"]

BIAS: Final = -5.1356
WEIGHTS: Final = (
    0.4672,  # characters
    0.4814,  # words
    1.7249,  # place
    0.8443,  # numbers
    0.1343,  # cues
    0.1921,  # central
    0.1458,  # new
    -1.7018,  # laughter
    0.2873,  # goes on
    -0.0752,  # pause
    0.5605,  # reader
    0.2605,  # name
    0.6063,  # day
    0.4004,  # time
    0.4181,  # open
    -0.7389,  # small talk
    0.0552,  # short
    -1.3137,  # change
    1.3418,  # decision
    -0.0500,  # commitment
    0.4373,  # request
    0.9939,  # acceptance
)
