from datetime import date

import pytest

from sottovoce.device.chats import Chat, import_chat
from sottovoce.device.chats.dates import DateOrder, DateReader


def read(*dates: str, clock: str = "18:03") -> Chat:
    return import_chat("\n".join(f"{day}, {clock} - Anna: x" for day in dates).encode(), name="x.txt")


def days(chat: Chat) -> list[date]:
    return [message.time.date() for message in chat.messages]


def test_a_day_above_twelve_decides_for_the_whole_file() -> None:
    chat = read("03/04/2026", "20/04/2026")
    assert days(chat) == [date(2026, 4, 3), date(2026, 4, 20)]
    assert chat.notes == ()


def test_month_first() -> None:
    chat = read("03/04/2026", "03/20/2026")
    assert days(chat) == [date(2026, 3, 4), date(2026, 3, 20)]
    assert chat.notes == ()


def test_the_order_of_the_file_decides() -> None:
    # Day-first this goes from March to April and back to March.
    chat = read("03/03/2026", "03/04/2026", "04/03/2026")
    assert days(chat) == [date(2026, 3, 3), date(2026, 3, 4), date(2026, 4, 3)]
    assert chat.notes == ()


def test_one_odd_line_does_not_outvote_the_file() -> None:
    chat = read(*[f"{day}/04/2026" for day in range(1, 29)], "04/30/2026")
    assert len(chat.messages) == 28
    assert chat.unparsed == (29,)


def test_ambiguous_is_day_first_and_says_so() -> None:
    chat = read("03/04/2026", "04/04/2026")
    assert days(chat) == [date(2026, 4, 3), date(2026, 4, 4)]
    assert chat.notes == ("the dates could also be month first; they were read as day first",)


def test_ambiguous_in_the_form_of_the_united_states_is_month_first() -> None:
    chat = read("3/4/26", "4/4/26", clock="6:03 PM")
    assert days(chat) == [date(2026, 3, 4), date(2026, 4, 4)]
    assert chat.notes == ("the dates could also be day first; they were read as month first",)


def test_ambiguous_with_padding_is_not_the_united_states() -> None:
    assert days(read("03/04/26", clock="6:03 pm")) == [date(2026, 4, 3)]


def test_no_note_where_both_readings_are_one() -> None:
    assert read("04/04/2026", "05/05/2026").notes == ()


def test_dots_are_never_month_first() -> None:
    chat = read("03.04.26", "04.04.26")
    assert (days(chat), chat.notes) == ([date(2026, 4, 3), date(2026, 4, 4)], ())


def test_two_digit_years_may_come_first_if_the_file_shows_it() -> None:
    chat = read("26/03/30", "26/03/31", "26/04/01")
    assert days(chat) == [date(2026, 3, 30), date(2026, 3, 31), date(2026, 4, 1)]
    assert chat.notes == ()


@pytest.mark.parametrize(
    ("digits", "order", "wanted"),
    [
        (("29", "2", "2024"), DateOrder.DAY_FIRST, date(2024, 2, 29)),
        (("29", "2", "2026"), DateOrder.DAY_FIRST, None),
        (("2", "29", "24"), DateOrder.MONTH_FIRST, date(2024, 2, 29)),
        (("2026", "1", "02"), DateOrder.YEAR_FIRST, date(2026, 1, 2)),
        (("1", "1", "202"), DateOrder.DAY_FIRST, None),
        (("1", "1", "2"), DateOrder.DAY_FIRST, None),
        (("0", "1", "2026"), DateOrder.DAY_FIRST, None),
        (("1", "1", "0000"), DateOrder.DAY_FIRST, None),
        (("1", "1", "2569"), DateOrder.DAY_FIRST, date(2026, 1, 1)),
    ],
)
def test_dates(digits: tuple[str, str, str], order: DateOrder, wanted: date | None) -> None:
    assert DateReader(order).read(digits) == wanted
