"""Opening hours: every closing, by the shop's own clock."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from operators.venues.hours import Hours

MADRID = ZoneInfo("Europe/Madrid")
MINUTE = 60_000_000


def local(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=MADRID).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("opening", "at", "closing"),
    [
        (["Mo-Sa 09:00-21:00"], "2026-12-05T17:00", "2026-12-05T21:30"),
        (["Mo-Sa 09:00-21:00"], "2026-12-05T21:30", "2026-12-07T21:30"),  # exactly then is not after; Sunday is closed
        (["Mo-Fr 09:00-14:00,17:00-21:00"], "2026-12-07T13:00", "2026-12-07T14:30"),
        (["Mo-Fr 09:00-14:00,14:15-21:00"], "2026-12-07T13:00", "2026-12-07T21:30"),  # open again by then
        (["Mo-Fr 09:00-21:00; Sa 10:00-14:00"], "2026-12-04T22:00", "2026-12-05T14:30"),
        (["Mo-Su 09:00-21:00", "Su off"], "2026-12-05T22:00", "2026-12-07T21:30"),
        (["Fr-Su 20:00-02:00"], "2026-12-05T01:00", "2026-12-05T02:30"),
        (["Sa-Mo 09:00-10:00"], "2026-12-05T11:00", "2026-12-06T10:30"),
        (["09:00-24:00"], "2026-12-05T11:00", "2026-12-06T00:30"),
        (["Sa 20:00-04:00"], "2026-10-24T21:00", "2026-10-25T04:30"),  # the night of 25 hours
        (["Sa 20:00-04:00"], "2026-03-28T21:00", "2026-03-29T04:30"),  # the night of 23
        (["24/7"], "2026-12-05T11:00", None),
        ([], "2026-12-05T11:00", None),
    ],
)
def test_the_next_closing_is_half_an_hour_after_hours(opening, at, closing):
    hours = Hours(opening, "Europe/Madrid", 30 * MINUTE)
    expected = None if closing is None else local(closing)
    assert hours.closing_after(local(at)) == expected
    assert hours.closing_after(local(at) + 1) == expected  # the remembered answer is the same


def test_an_earlier_question_after_a_later_one_is_answered_anew():
    hours = Hours(["Mo-Su 09:00-21:00"], "Europe/Madrid", 0)
    assert hours.closing_after(local("2026-12-06T22:00")) == local("2026-12-07T21:00")
    assert hours.closing_after(local("2026-12-05T22:00")) == local("2026-12-06T21:00")


@pytest.mark.parametrize("rule", ["Mo-Sx 09:00-21:00", "Mo-Sa 9-21", "Mo-Sa 25:00-26:00", "PH off", "Mo-Sa"])
def test_a_rule_that_cannot_be_read_is_named(rule):
    with pytest.raises(ValueError, match=rule):
        Hours([rule], "Europe/Madrid", 0)


def test_a_time_zone_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="Europe/Atlantis"):
        Hours([], "Europe/Atlantis", 0)
