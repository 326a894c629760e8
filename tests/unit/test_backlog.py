"""Rows that have waited are handed out in the order of their appends, whatever is fetched when."""

from hypothesis import given, settings
from hypothesis import strategies as st

from operators.connectors.backlog import FRESH_MS, SLICE_MS, Part, behind, release

NOW = 10_000_000


def part(number, lane=0, target=0):
    return Part("sensing.position", "sensing.position", number, lane, 7, "id", 0, target)


@settings(derandomize=True, max_examples=200)
@given(
    logs=st.lists(st.lists(st.integers(0, 5_000), max_size=30), min_size=1, max_size=5),
    lanes=st.integers(1, 3),
    draws=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), max_size=60),
    most=st.integers(1, 12),
    apart=st.booleans(),
)
def test_any_order_of_fetching_hands_out_the_same_merge(logs, lanes, draws, most, apart):
    """Against sorting everything: each partition whole and in order."""
    assert merged_right(logs, lanes, draws, most, lambda one: not one.reached(), apart=apart)


def test_mutant_a_partition_that_runs_dry_is_not_waited_for():
    logs = [[0, 1, 2, 3], [0, 2, 4]]
    draws = [(1, 3), (0, 2)]
    assert merged_right(logs, 1, draws, 12, lambda one: not one.reached(), apart=False)
    assert not merged_right(logs, 1, draws, 12, lambda one: False, apart=False)


def merged_right(logs, lanes, draws, most, owes, *, apart):
    logs = [sorted(log) for log in logs]
    parts = [part(number, number % lanes, target=len(log)) for number, log in enumerate(logs)]
    out = []

    def hand_out():
        blockers = [one for one in parts if not one.queue and not one.reached()]
        while rows := release([one for one in parts if one.queue], blockers, most, owes, apart=apart):
            times = [at for _, at in rows]
            assert len(rows) <= most
            if apart:
                assert len({one.lane for one, _ in rows}) == 1 or max(times) - min(times) <= SLICE_MS
            out.extend((one.partition, at) for one, at in rows)
            blockers = [one for one in parts if not one.queue and not one.reached()]

    for number, count in [*draws, *((number, 99) for number in range(len(logs)))]:
        one = parts[number % len(parts)]
        for at in logs[one.partition][one.read : one.read + count]:
            one.heard(at, one.read, at, 1)
        hand_out()
    for number, log in enumerate(logs):
        assert [at for found, at in out if found == number] == log
    return [at for _, at in out] == sorted(at for log in logs for at in log)


def test_what_is_behind_and_what_only_seems_so():
    one = part(0)
    assert behind(one, -1, NOW), "nothing is known of it yet"
    one.heard(NOW - FRESH_MS - 1, 0, "row", 1)
    assert behind(one, -1, NOW), "a row that has waited is still to be handed on"
    one.queue.clear()
    assert not behind(one, 1, NOW), "the broker has no more"
    assert behind(one, 2, NOW), "it has"
    one.heard(NOW - 10, 1, "row", 1)
    assert not behind(one, 9, NOW), "what comes now has not waited"
    one.queue.clear()
    one.last_ms = 0
    one.ended(9)
    assert not behind(one, 20, NOW), "there is more, and we may not have it: another's open transaction"
    one.told_end(12)
    assert behind(one, 9, NOW), "the broker was away, and has more since"


def test_markers_at_the_end_are_behind_us_once_all_rows_are_handed_on():
    one = part(0)
    one.heard(NOW, 0, "row", 1)
    one.ended(3)
    assert one.next == 0
    one.queue.clear()
    one.next = 1
    one.settle()
    assert one.next == 3
