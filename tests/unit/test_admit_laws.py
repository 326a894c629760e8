"""Laws of the door: order of arrival, batches and restarts never matter, and every row meets one fate."""

import math
import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.admit import Admit, AdmitRule
from operators.state.memory import Memory, MemoryStore
from operators.state.store import Tables
from operators.venues.place import Places
from schemas.items import Tally
from schemas.reference import Link
from tests.unit.admitting import MS, T0, S, admit, clocked, facts, items_of, reading, run, stream, venue

delays = st.lists(st.integers(0, 240), min_size=120, max_size=120)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(delays, st.sets(st.integers(0, 119), max_size=20), st.integers(0, 5))
def test_arrival_order_within_the_reorder_time_and_duplicates_never_matter(delayed, repeated, seed):
    """The same readings, each a little later, some twice: the same fixes in the same order."""
    walk = random.Random(seed)
    warm = stream(4, start=-5)  # its source is out of probation before the order is tried
    records = []
    for i in range(120):
        x = 30 + 10 * math.sin(i / 9) + walk.random() * 0.1
        records.append(reading(i / 10, subject=f"tag:1:{'abc'[i % 3]}", x=x, seq=i))
    moved = [
        msgspec.structs.replace(each, ingest_time=each.event_time + delay * MS)
        for each, delay in zip(records, delayed, strict=True)
    ]
    twice = [msgspec.structs.replace(moved[i], ingest_time=moved[i].ingest_time + 300 * MS) for i in sorted(repeated)]
    plain, shuffled = run([*warm, *records]), run([*warm, *moved, *twice])
    assert facts(shuffled.fixes) == facts(plain.fixes)
    assert not shuffled.late
    assert shuffled.tally["duplicate"] == len(twice)


def test_the_law_would_notice_a_door_without_a_buffer():
    """With no reorder time the same shuffle is not in order: the law bites."""
    records = [*stream(4, start=-5), *clocked(0, 30, jitter=0.24, rate=10)]
    assert run(records, rule={"reorder_us": 0}).late
    assert not run(records).late


def mixed(seed, size=600):
    """Good and bad readings of three sources, facts between them."""
    rng = random.Random(seed)
    rows = []
    for i in range(size):
        kind = rng.random()
        extra = {}
        if kind < 0.02:
            extra = {"x": rng.choice([math.nan, 900.0, 40.0])}
        elif kind < 0.04:
            extra = {"delay": rng.choice([-30, 20, 90_000])}
        record = reading(
            i / 20,
            **{
                "delay": rng.random() * 0.3,
                "source": rng.choice("gh"),
                "subject": f"tag:1:{rng.choice('abcd')}",
                "seq": i if rng.random() < 0.9 else None,
                **extra,
            },
        )
        rows.append(record)
        if rng.random() < 0.05:
            rows.append(msgspec.structs.replace(record, ingest_time=record.ingest_time + rng.randrange(2 * S)))
        if rng.random() < 0.05:
            at = T0 + i * 50 * MS
            rows.append(
                Link(
                    event_time=at - rng.randrange(5 * S),
                    ingest_time=at,
                    event_id=str(rng.randrange(50)),
                    from_id="tag:1:a",
                    to_id="loyalty:1:x",
                    valid_from=at,
                )
            )
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_every_row_meets_exactly_one_fate(seed):
    """read = applied + duplicate + late + dead, whatever comes; and accepted readings leave sorted."""
    rows = mixed(seed)
    seen = run(rows)
    assert sum(seen.tally.values()) == len(rows)
    assert seen.tally["applied"] == len(seen.fixes) + len(seen.passed)
    assert seen.tally["dead"] == len(seen.dead)
    assert seen.tally["late"] == len(seen.late)
    assert len(seen.dues) == len(seen.passed)


def without_tallies(out):
    return [item for item in out if not isinstance(item, Tally)]


@pytest.mark.parametrize("seed", range(3))
def test_batches_and_restarts_never_matter(seed):
    """The whole in one step, item by item, and stopped and resumed in the middle: the same items out."""
    items = items_of(mixed(seed))
    whole = admit()[0].step(items)
    core, _ = admit()
    single = [out for item in items for out in core.step([item])]
    assert without_tallies(single) == without_tallies(whole)
    memory = Memory()
    resumed, cut, token = [], [0, 137, 500, len(items)], None
    for start, stop in pairwise(cut):
        store = MemoryStore(memory)
        store.claim(token)
        store.open("0")
        tables = Tables(store)
        core = Admit(AdmitRule(sealed=lambda payload: b"sealed" + payload), Places(venue()), tables)
        resumed += core.step(items[start:stop])
        token = tables.commit()
    assert without_tallies(resumed) == without_tallies(whole)
