"""A compacted output through crashes, with the cleaner at work at any moment: no lag of compaction is asked for.

Ids of such a topic count versions under a key, and records of a key are written in order. Rows of two partitions may
be interleaved otherwise in every life.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from operators.connectors.guard import Guard, Pending
from operators.connectors.outlet import tells_of
from tests.oracles.identity import T0, Stitched, customer, web

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


@settings(derandomize=True, max_examples=400, deadline=None)
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
                made.found(PLACE, f"{key}-{version}", Pending(offset, 0, key, (version, b"")))
        made.begins(PLACE, end)
        steps = len(WANTED) - at if life == 5 else data.draw(st.integers(0, len(WANTED) - at))
        for _ in range(steps):
            key, version = WANTED[at]
            if not made.seen(PLACE, f"{key}-{version}", key, (version, b"")):
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


class Told:
    """What a flow keeps of each key: the newest thing heard, and how many versions it has told of it."""

    def __init__(self, was=None):
        self.at = list(was.at) if was else [0, 0]
        self.newest = dict(was.newest) if was else {}
        self.versions = dict(was.versions) if was else dict.fromkeys(KEYS, 0)

    def hears(self, part):
        """The next row of a partition; what is said of it, if anything."""
        key, time = ROWS[part][self.at[part]]
        self.at[part] += 1
        if time <= self.newest.get(key, -1):
            return None
        self.newest[key] = time
        self.versions[key] += 1
        return key, self.versions[key], b"%d" % time

    @property
    def left(self):
        return [part for part in (0, 1) if self.at[part] < len(ROWS[part])]


ROWS = [[(KEYS[n % 3 % 2], n * 7 % 10) for n in range(8)], [(KEYS[n % 2], n * 3 % 11) for n in range(8)]]


@settings(derandomize=True, max_examples=1_000, deadline=None)
@given(st.data())
def test_however_rows_are_interleaved_the_topic_comes_to_tell_the_last_state(data):
    log: list[tuple[int, bytes, int, bytes]] = []  # offset, key, version, what it says
    end, kept = 0, (0, Told())
    for life in range(5):
        base, told = kept[0], Told(kept[1])
        made = Guard(frozenset({PLACE[0]}), orphan_after=10**9)
        for offset, key, version, says in log:
            if offset >= base:
                made.found(PLACE, f"{key}-{version}", Pending(offset, 0, key, (version, says)))
        made.begins(PLACE, end)
        while told.left and (life == 4 or data.draw(st.integers(0, 7))):
            said = told.hears(data.draw(st.sampled_from(told.left)))
            if said and not made.seen(PLACE, f"{said[0]}-{said[1]}", said[0], said[1:]):
                log.append((end, *said))
                made.written(PLACE, end)
                end += 1
            if not data.draw(st.integers(0, 3)):
                kept = (made.low(PLACE), Told(told))
        newest = {key: offset for offset, key, _, _ in log}
        log = [row for row in log if newest[row[1]] == row[0] or data.draw(st.integers(0, 3))]
    for key in KEYS:
        assert [int(says) for _, one, _, says in log if one == key][-1] == told.newest[key]


def test_an_identifier_that_a_replay_joins_at_once_is_told_anew():
    """Web first: a person of its own, then of the customer. Killed between the two, and the customer is heard first."""
    visit, known = web(1, T0 + 5, "cookie:1:a"), customer(2, T0, "login:1:a", "cookie:1:a")
    place = ("identity.assignment", 0)
    (before,) = Stitched().all(visit).rows(place[0])
    made = Guard(frozenset({place[0]}), orphan_after=10**9)
    made.found(place, before.event_id, Pending(0, T0, b"cookie:1:a", tells_of(before)))
    made.begins(place, 1)
    again = [row for row in Stitched().all(known, visit).rows(place[0]) if row.identifier == "cookie:1:a"]
    assert [(row.event_id, row.person_id) for row in again] == [(before.event_id, "login:1:a")]
    assert not made.seen(place, again[0].event_id, b"cookie:1:a", tells_of(again[0]))
    (same,) = Stitched().all(web(1, T0 + 9, "cookie:1:a")).rows(place[0])
    assert tells_of(same) == tells_of(before)
