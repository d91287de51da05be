"""Whether a text says something: a fact is a few words that must all be there, in one of the ways in which people write them.

An alternative is a word or a few; `*` at its end stands for any ending. Alternatives are separated by `|`. Case, accents and kinds of
apostrophe do not count. A number is not found inside a longer one: "7" is in "7pm" and "7:00", not in "17" or "70".
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["fold", "has", "says"]


def fold(text: str) -> str:
    """`text` for comparing: compatibility forms, lower case, no accents, white space as one space."""
    plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'")).casefold()
    kept = "".join(
        one for one in plain if not unicodedata.combining(one) and unicodedata.category(one) != "Cf"
    )
    return " ".join(kept.split())


@functools.cache
def _pattern(alternatives: str) -> re.Pattern[str]:
    """Raises ValueError: an alternative that is empty."""
    found = []
    for written in alternatives.split("|"):
        word = fold(written)
        bare = word.rstrip("*").strip()
        if not bare:
            raise ValueError("an alternative is empty")
        # Scripts that write vowels as marks have no word ends that `\\b` would see.
        before = r"(?<!\d)(?<!\d[.,:])" if bare[0].isdigit() else r"(?<!\w)" if _is_letter(bare[0]) else ""
        after = r"(?!\d)" if bare[-1].isdigit() else r"(?!\w)" if _is_letter(bare[-1]) else ""
        found.append(before + re.escape(bare) + ("" if word.endswith("*") else after))
    return re.compile("|".join(found))


def _is_letter(character: str) -> bool:
    return character.isascii() and character.isalpha()


def has(text: str, alternatives: str) -> bool:
    """Whether `text` holds one of `alternatives`."""
    return _pattern(alternatives).search(fold(text)) is not None


def says(text: str, groups: Sequence[str], unless: Iterable[str] = ()) -> bool:
    """Whether `text` holds one alternative of each of `groups`, and none of any of `unless`."""
    return all(has(text, group) for group in groups) and not any(has(text, group) for group in unless)
