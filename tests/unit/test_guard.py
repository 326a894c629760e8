"""What a tail holds against what is said again: matched, kept in reach, given up; no broker."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from operators.connectors.guard import Guard, Pending

PLACE = ("action.command", 0)
COMPACTED = ("profile.snapshot", 0)


def guard(**options):
    made = Guard(frozenset({"profile.snapshot"}), orphan_after=100, **options)
    for place in (PLACE, COMPACTED):
        made.begins(place, 10)
    return made


def found(made, *offsets, place=PLACE, key=b"k", at=0):
    for offset in offsets:
        made.found(place, f"id-{offset}", Pending(offset, at, key))


def test_the_tail_begins_at_the_lowest_id_that_is_not_said_again():
    made = guard()
    found(made, 3, 5, 8)
    assert made.low(PLACE) == 3
    assert made.seen(PLACE, "id-3", b"k")
    assert made.low(PLACE) == 5
    assert made.seen(PLACE, "id-8", b"k")
    assert made.low(PLACE) == 5
    assert made.seen(PLACE, "id-5", b"k")
    assert made.low(PLACE) == 10


def test_what_was_written_moves_the_end_and_never_back():
    made = guard()
    made.written(PLACE, 14)
    made.written(PLACE, 12)
    assert made.low(PLACE) == 15


def test_an_id_is_written_once_in_a_life():
    made = guard()
    assert not made.seen(PLACE, "new", b"k")
    made.remember("action.command", "new")
    assert made.seen(PLACE, "new", b"k")
    assert made.counts["repeated", "action.command"] == 1


def test_remembered_ids_are_bounded():
    made = guard(recent=2)
    for name in "abc":
        made.remember("action.command", name)
    assert not made.seen(PLACE, "a", b"k")
    assert made.seen(PLACE, "b", b"k")


def test_an_id_that_stands_twice_is_kept_in_reach_at_its_first_place():
    made = guard()
    made.found(PLACE, "a", Pending(3, 0, b"k"))
    made.found(PLACE, "a", Pending(7, 0, b"k"))
    assert made.low(PLACE) == 3
    assert made.pending == 1


def tells(made, *versions, key=b"person", at=0):
    """Records of a compacted topic, one after the other from offset 3: (version, digest)."""
    for offset, told in enumerate(versions, 3):
        made.found(COMPACTED, f"version-{told[0]}", Pending(offset, at, key, told))


def test_a_record_that_was_compacted_away_is_not_written_behind_its_successor():
    made = guard()
    tells(made, (2, b"b"))
    assert made.seen(COMPACTED, "version-1", b"person", (1, b"a"))
    assert made.counts["compacted", "profile.snapshot"] == 1
    assert not made.seen(COMPACTED, "version-1-of-another", b"another", (1, b"a"))
    assert made.seen(COMPACTED, "version-2", b"person", (2, b"b"))
    assert not made.seen(COMPACTED, "version-3", b"person", (3, b"c"))


def test_a_version_that_says_something_else_this_time_is_written_and_so_is_all_that_follows():
    made = guard()
    tells(made, (1, b"a"), (2, b"b"), (3, b"c"))
    assert made.seen(COMPACTED, "version-1", b"person", (1, b"a"))
    assert not made.seen(COMPACTED, "version-2", b"person", (2, b"x"))
    assert not made.seen(COMPACTED, "version-3", b"person", (3, b"c"))
    assert (made.counts["differs", "profile.snapshot"], made.low(COMPACTED)) == (1, 10)


def test_what_stands_last_counts_where_versions_were_written_anew():
    """1 2 1' on the topic: it tells 1', whatever 2 said."""
    made = guard()
    tells(made, (1, b"a"), (2, b"b"), (1, b"x"))
    assert (made.low(COMPACTED), made.pending) == (5, 1)
    assert made.seen(COMPACTED, "version-1", b"person", (1, b"x"))
    assert not made.seen(COMPACTED, "version-2", b"person", (2, b"b"))


def test_a_version_after_the_last_is_new_though_an_earlier_one_waits():
    """The snapshot knows version 1, and the tail begins before it since somebody else's record waits there."""
    made = guard()
    tells(made, (1, b"a"))
    assert not made.seen(COMPACTED, "version-2", b"person", (2, b"b"))


def test_a_record_of_which_nothing_is_known_is_no_reason_to_be_silent():
    made = guard()
    made.found(COMPACTED, "version-4", Pending(3, 0, b"person"))
    made.found(COMPACTED, "version-5", Pending(4, 0, b"person"))
    assert (made.low(COMPACTED), made.pending) == (4, 1)
    assert not made.seen(COMPACTED, "version-4", b"person", (4, b"d"))
    assert not made.seen(COMPACTED, "version-5", b"person", (5, b"e"))


def test_versions_that_are_given_up_are_forgotten_whole():
    made = guard()
    tells(made, (1, b"a"), (2, b"b"), at=50)
    made.moved(200)
    assert made.drop_orphans() == 2
    assert not made.seen(COMPACTED, "version-1", b"person", (1, b"a"))


def test_elsewhere_an_unknown_id_is_new_whatever_its_key():
    made = guard()
    found(made, 6)
    assert not made.seen(PLACE, "new", b"k")


def test_what_is_too_old_to_be_repeated_is_given_up_and_counted():
    made = guard()
    found(made, 3, at=50)
    found(made, 4, at=150)
    made.moved(150)
    assert made.drop_orphans() == 0
    made.moved(151)
    assert made.drop_orphans() == 1
    assert made.low(PLACE) == 4
    assert made.counts["orphaned", "action.command"] == 1


@settings(derandomize=True, max_examples=200)
@given(st.data())
def test_any_crashes_write_every_id_once(data):
    """A log, an engine that commits when it likes, and lives that end anywhere."""
    log: list[str] = []
    wanted = [f"id-{number}" for number in range(12)]
    kept = (0, 0)
    for _ in range(data.draw(st.integers(1, 6))):
        base, at = kept
        made = Guard(frozenset(), orphan_after=10**9)
        for offset in range(base, len(log)):
            made.found(PLACE, log[offset], Pending(offset, 0, b""))
        made.begins(PLACE, len(log))
        for _ in range(data.draw(st.integers(0, 15))):
            if at < len(wanted) and data.draw(st.booleans()):
                if not made.seen(PLACE, wanted[at], b""):
                    made.remember(PLACE[0], wanted[at])
                    log.append(wanted[at])
                    made.written(PLACE, len(log) - 1)
                at += 1
            elif data.draw(st.booleans()):
                kept = (made.low(PLACE), at)
    assert max(Counter(log).values(), default=0) <= 1
    assert log == wanted[: len(log)]
