"""Where an answer ends."""

import pytest

from sottovoce.tee.features.stops import StopAt


def told(text: str, stops: list[str], *, size: int, keep: bool = False) -> str:
    stop = StopAt(stops, keep=keep)
    found = "".join(stop.feed(text[at : at + size]) for at in range(0, len(text), size))
    return found if stop.stopped else found + stop.end()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("stops", "wanted"),
    [
        (["END"], "so EN and E, "),
        (["no such"], "so EN and E, END of it"),
        (["of", "END"], "so EN and E, "),
        ([" of", "END of it and more"], "so EN and E, END"),
        (["so"], ""),
        (["it"], "so EN and E, END of "),
        ([], "so EN and E, END of it"),
    ],
)
def test_it_stops_before_the_first(stops: list[str], wanted: str, size: int) -> None:
    assert told("so EN and E, END of it", stops, size=size) == wanted


@pytest.mark.parametrize("size", [1, 2, 7])
def test_it_keeps_what_ends_it(size: int) -> None:
    assert told("One. Two. Three", [". "], size=size, keep=True) == "One. "


def test_nothing_follows() -> None:
    stop = StopAt(["x"])
    assert stop.feed("ax") == "a"
    assert stop.feed("more") == stop.end() == ""


def test_only_what_may_be_a_stop_is_held_back() -> None:
    stop = StopAt(["abc"])
    assert [stop.feed(piece) for piece in ("xa", "b", "abz", "a")] == ["x", "", "ababz", ""]
    assert stop.end() == "a"
