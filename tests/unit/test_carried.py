"""What a page says of the broker: nothing that is not known is told as nothing."""

import math

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from flows import carried
from flows.carried import SILENT_S, Carried, Reach
from flows.health import Meters
from operators.connectors.reading import Counters

COUNTS = {
    ("deduplicated", "action.command"): 2,
    ("deduplicated", "presence.visit"): 5,
    ("written", "presence.visit"): 9,
}


class Clock:
    """Seconds, set by hand."""

    now = 100.0


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(carried, "monotonic", lambda: found.now)
    return found


@pytest.fixture
def counters():
    return Counters(
        lag={("sensing.position", 0): 3, ("sensing.position", 1): 4, ("web.event", 0): 0},
        age={("sensing.position", 0): 2.5, ("sensing.position", 1): 1.0, ("web.event", 0): 0.0},
        measured_at=99.9,
    )


def page(reach, counters):
    registry = CollectorRegistry()
    registry.register(Carried(counters, reach, lambda: COUNTS))
    return registry


def test_lag_is_summed_and_age_is_the_greatest(clock, counters):
    registry = page(Reach(counters, lambda: None), counters)
    assert registry.get_sample_value("footfall_broker_up") == 1
    assert registry.get_sample_value("footfall_input_lag_events", {"topic": "sensing.position"}) == 7
    assert registry.get_sample_value("footfall_input_lag_seconds", {"topic": "sensing.position"}) == 2.5
    assert registry.get_sample_value("footfall_input_lag_events", {"topic": "web.event"}) == 0


@pytest.mark.parametrize("topic", ["sensing.position", "web.event"])
def test_with_the_broker_away_a_lag_is_not_known(clock, counters, topic):
    registry = page(Reach(counters, lambda: None), counters)
    counters.away = True
    assert registry.get_sample_value("footfall_broker_up") == 0
    for name in ("events", "seconds"):
        assert math.isnan(registry.get_sample_value(f"footfall_input_lag_{name}", {"topic": topic}))
    counters.away = False
    assert registry.get_sample_value("footfall_broker_up") == 1


def test_a_reader_that_is_held_up_knows_nothing_and_who_waits_for_the_broker_says_so(clock, counters):
    beats = []
    reach = Reach(counters, lambda: beats.append(clock.now))
    assert reach.fresh
    clock.now += SILENT_S
    assert not reach.fresh
    assert reach.up, "held up by something else"
    reach.waits()
    assert not reach.up, "held up by an output that waits for the broker"
    assert beats == [clock.now], "the heart goes on"
    counters.measured_at = clock.now
    assert reach.fresh
    assert reach.up, "an output that waits for a moment is no outage"


def test_before_the_first_look_nothing_is_wrong(clock):
    assert Reach(Counters(), lambda: None).up


def test_what_only_grows_is_a_counter_and_actions_are_counted_alone(clock, counters):
    counters.commit_failures = 3
    meters = Meters(1.0)
    meters.watch(lambda: 7, [Carried(counters, Reach(counters, lambda: None), lambda: COUNTS)])
    found = {one.name: one for one in text_string_to_metric_families(meters.page().decode())}
    told = {
        name: (found[f"footfall_{name}"].type, [(one.labels, one.value) for one in found[f"footfall_{name}"].samples])
        for name in ("actions_deduplicated", "actions_orphaned", "offset_commit_failures", "outputs")
    }
    assert told == {
        "actions_deduplicated": ("counter", [({}, 2.0)]),
        "actions_orphaned": ("counter", [({}, 0.0)]),
        "offset_commit_failures": ("counter", [({}, 3.0)]),
        "outputs": (
            "counter",
            [({"outcome": outcome, "topic": topic}, count) for (outcome, topic), count in COUNTS.items()],
        ),
    }
