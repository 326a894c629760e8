"""Occupancy: every transition is followed by the zone as it stands after it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from operators.occupancy import Occupancy
from operators.state.memory import Memory, MemoryStore
from operators.state.store import Tables
from schemas.derived import Transition
from schemas.items import Event, Occupied, Tally


def transition(kind: str, subject: str, zone: str, visit: str) -> Event:
    record = Transition(
        event_time=1, site_id="shop", visit_id=visit, subject_id=subject, zone_id=zone, zone_revision=0,
        kind=kind, at=1, reason="CROSSED", tech="UWB",
    )  # fmt: skip
    return Event(7, 9, "presence.transition", record)


def opened(memory: Memory, token=None) -> tuple[Occupancy, Tables]:
    store = MemoryStore(memory)
    store.claim(token)
    store.open("0")
    tables = Tables(store)
    return Occupancy(tables), tables


def test_a_zone_is_counted_after_each_transition_and_the_rest_passes():
    core, _ = opened(Memory())
    items = [
        transition("ENTER", "b", "z", "1"),
        Tally("t", "read", 1),
        transition("ENTER", "a", "z", "2"),
        transition("EXIT", "b", "z", "1"),
    ]
    out = core.step(items)
    assert [item for item in out if not isinstance(item, Occupied)] == items
    assert [(o.count, o.subject_id, o.inside) for o in out if isinstance(o, Occupied)] == [
        (1, "b", True),
        (2, "a", True),
        (1, "b", False),
    ]
    assert out[1] == Occupied(7, 9, "shop", "z", 1, "b", inside=True)


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("yz"), st.booleans(), st.booleans()), max_size=60)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(STEPS)
def test_the_count_is_that_of_all_visits_not_yet_over_whenever_it_stops(steps):
    """Told twice counts once, a stop anywhere changes nothing."""
    memory = Memory()
    core, tables = opened(memory)
    inside: dict[tuple[str, str], str] = {}
    told: dict[str, set[str]] = {}
    for n, (subject, zone, twice, stop) in enumerate(steps):
        visit = inside.pop((subject, zone), None)
        event = transition("ENTER" if visit is None else "EXIT", subject, zone, visit or str(n))
        if visit is None:
            inside[subject, zone] = str(n)
        out = core.step([event] * (1 + twice))
        there = {who for who, where in inside if where == zone}
        counts = set()
        for one in (one for one in out if isinstance(one, Occupied)):
            counts.add(one.count)
            whole = told.setdefault(zone, set())
            (whole.add if one.inside else whole.discard)(one.subject_id)
        assert counts == {len(there)}
        assert told[zone] == there
        if stop:
            core, tables = opened(memory, tables.commit())
