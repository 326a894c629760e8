"""A compacted output through crashes, with the cleaner at work at any moment: no lag of compaction is asked for.

Ids of such a topic count versions under a key, and records of a key are written in order.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from operators.connectors.guard import Guard, Pending

PLACE = ("profile.snapshot", 0)
KEYS = (b"ana", b"ben")


def said(number):
    """What the flow says at a step of its input: who, and her how-manieth."""
    return [(KEYS[step * step % 3 % 2], step) for step in range(number)]


def versions(rows):
    counted = dict.fromkeys(KEYS, 0)
    for key, _ in rows:
        counted[key] += 1
        yield key, counted[key]


WANTED = list(versions(said(14)))


@settings(derandomize=True, max_examples=400)
@given(st.data())
def test_whatever_the_cleaner_takes_versions_stand_in_order_and_the_last_one_stands(data):
    log: list[tuple[int, bytes, int]] = []  # offset, key, version
    written: list[tuple[bytes, int]] = []
    end, kept = 0, (0, 0)
    for life in range(6):
        base, at = kept
        made = Guard(frozenset({PLACE[0]}), orphan_after=10**9)
        for offset, key, version in log:
            if offset >= base:
                made.found(PLACE, f"{key}-{version}", Pending(offset, 0, key))
        made.begins(PLACE, end)
        steps = len(WANTED) - at if life == 5 else data.draw(st.integers(0, len(WANTED) - at))
        for _ in range(steps):
            key, version = WANTED[at]
            if not made.seen(PLACE, f"{key}-{version}", key):
                log.append((end, key, version))
                written.append((key, version))
                made.written(PLACE, end)
                end += 1
            at += 1
            if data.draw(st.booleans()):
                kept = (made.low(PLACE), at)
        newest = {key: offset for offset, key, _ in log}
        log = [row for row in log if newest[row[1]] == row[0] or not data.draw(st.booleans())]
    assert len(set(written)) == len(written) == len(WANTED)
    for key in KEYS:
        told = [version for one, version in written if one == key]
        assert told == sorted(told)
        assert [version for _, one, version in log if one == key][-1] == told[-1]
