"""Ids of schemas that nobody knows, in any number: what they cost the rows beside them. The registry is a table here."""

import json
from collections import Counter

import pytest

from flows.causes import journal
from flows.joining import resolved
from operators.connectors.registry import RegistryAway
from operators.connectors.subjects import subject_of
from operators.connectors.writers import BURST, PATIENCE_S, REGAINED, LookupsSpent, Schemas
from operators.pulse import Pulse
from schemas import avsc
from schemas.codec import framed
from schemas.items import Heard

TOPIC = "web.event"
GARBAGE = 2_000_000_000


class Table:
    """A registry of some ids; away when told."""

    def __init__(self, *known):
        self.known, self.away = set(known), False

    def schema(self, schema_id):
        if self.away:
            raise RegistryAway("away")
        return json.loads(json.dumps(avsc.schema_of(TOPIC))) if schema_id in self.known else None

    def subjects(self, _schema_id):
        return [subject_of(TOPIC, "")]


class Hand:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


def taken(schemas, clock, ids):
    """Take a batch until it may go on; seconds it was held up."""
    began = clock.now
    while True:
        try:
            schemas.resolve([framed(one, b"") for one in ids])
        except LookupsSpent:
            clock.now += 0.25
        else:
            return clock.now - began


def test_a_storm_of_ids_holds_good_rows_up_for_less_than_a_tenth_of_the_time():
    clock, table = Hand(), Table(7)
    schemas = Schemas(table, now=clock)
    held, began, fresh = 0.0, clock.now, 0
    while clock.now - began < 100.0:
        held += taken(schemas, clock, [7, GARBAGE + fresh])
        assert 7 in schemas
        assert GARBAGE + fresh not in schemas
        fresh += 1
        clock.now += 0.1
    assert held <= PATIENCE_S + REGAINED * 100.0 + 1.0
    assert fresh > 900, "the storm came through"
    assert schemas.lookups <= BURST + 101


def test_a_batch_full_of_garbage_is_held_up_no_longer():
    clock = Hand()
    schemas = Schemas(Table(), now=clock)
    assert taken(schemas, clock, range(GARBAGE, GARBAGE + 1_000)) <= PATIENCE_S
    assert taken(schemas, clock, range(GARBAGE, GARBAGE + 1_000)) == 0.0


def test_writers_that_go_over_to_new_schemas_together_lose_no_row():
    clock, ids = Hand(), range(10, 19)
    schemas = Schemas(Table(*ids), now=clock)
    assert taken(schemas, clock, ids) > 0
    assert all(one in schemas for one in ids)


def test_a_new_schema_gets_through_a_storm():
    clock, table = Hand(), Table()
    schemas = Schemas(table, now=clock)
    fresh = Counter()
    for second in range(60):
        for _ in range(10):
            fresh["garbage"] += 1
            taken(schemas, clock, [GARBAGE + fresh["garbage"], *[77] * (5 if second >= 30 else 0)])
            if second >= 30 and 77 not in schemas:
                fresh["refused"] += 5
            clock.now += 0.1
        if second == 29:
            table.known.add(77)
    assert 77 in schemas
    assert fresh["refused"] <= 10 * 5 * 2, "within the next look-up or two"


def test_what_could_not_be_asked_about_is_asked_when_it_comes_by_again():
    clock, table = Hand(), Table(77)
    schemas = Schemas(table, now=clock)
    taken(schemas, clock, range(GARBAGE, GARBAGE + 20))
    taken(schemas, clock, [77])
    assert 77 not in schemas
    clock.now += 1.0
    taken(schemas, clock, [77])
    assert 77 in schemas


def test_a_registry_that_is_away_is_waited_for_however_long():
    clock, table = Hand(), Table(77)
    schemas = Schemas(table, now=clock)
    table.away = True
    for _ in range(100):
        with pytest.raises(RegistryAway):
            schemas.resolve([framed(77, b"")])
        clock.now += 1.0
    table.away = False
    clock.now += 5.0
    assert taken(schemas, clock, [77]) == 0.0
    assert 77 in schemas


@pytest.mark.parametrize("away", [True, False])
def test_a_drain_is_heard_while_a_batch_waits(away):
    clock, table = Hand(), Table()
    schemas, pulse = Schemas(table, now=clock), Pulse(clock, 10.0)
    table.away = away
    heard = [Heard(n, TOPIC, 0, n, 1, framed(GARBAGE + n, b""), "wire") for n in range(20)]
    pulse.stop.set()
    assert not resolved(heard, schemas, pulse, journal())
