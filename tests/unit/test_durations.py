"""Durations as they stand in venue, campaign and settings files."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import durations


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("45s", 45_000_000),
        ("0s", 0),
        ("250ms", 250_000),
        ("1.5h", 5_400_000_000),
        ("1h30m", 5_400_000_000),
        ("14d", 1_209_600_000_000),
        ("0.000001s", 1),
    ],
)
def test_a_number_with_its_unit_is_whole_microseconds(text, us):
    """Every unit the files use reads exactly."""
    assert durations.parse(text) == us


@pytest.mark.parametrize(
    "text", ["45", 45, 4.5, "", "s", "-1s", "1 s", "1s1h", "1s2s", "1w", "0.1us", None, True, "٣s", "999999d"]
)
def test_what_is_no_duration_is_refused(text):
    """A bare number is refused too, and the message shows what was found."""
    with pytest.raises(durations.DurationFault, match=r"must .*; got"):
        durations.parse(text)


@settings(derandomize=True, max_examples=100)
@given(st.integers(0, 100 * 365 * 86_400_000_000))
def test_what_is_written_reads_back(us):
    """`text` and `parse` are inverse."""
    assert durations.parse(durations.text(us)) == us
