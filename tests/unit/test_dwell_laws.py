"""Presence equals sort and scan; watermarks and restarts never matter; known faults are caught.

Walks are drawn from few places and few times, so that borders, due times and gaps are hit exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from operators.dwell import Dwell
from operators.stays import moves
from operators.stays.stay import Moved, State, figures, heard
from schemas.derived import Transition, Visit
from schemas.items import Fix, Item
from schemas.reference import Consent, Link, Purpose, Threshold, Zone
from tests.oracles.presence import (
    END,
    END_MARK,
    T0,
    Cut,
    S,
    Shop,
    distance,
    due,
    fix,
    mark,
    rect,
    said,
    scan,
    scan_group,
    site,
    told,
)

pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
LAWFUL = settings(
    derandomize=True,
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
ZONES = [
    rect("a", 0, 0, 4, 4, dwell_us=[2 * S, 12 * S]),
    rect("b", 4, 0, 8, 4, dwell_us=[10 * S], edge_max_us=8 * S),
    rect("c", 1, 1, 3, 3, (1.5, 1.5, 2.5, 2.5), enter_margin_m=0.1, enter_fixes=3, exit_fixes=1, exit_confirm_us=0),
    rect("d", -1, -1, 9, 5, enter_confirm_us=0, enter_fixes=1, fresh_us=10 * S, acc_cap_m=0.4),
]
WANTED = {"a": (2 * S, 45 * S), "c": (S, 3 * S), "d": (6 * S, 11 * S, 20 * S)}
SPOTS = st.sampled_from(
    [
        (x, y)
        for x in (-2.0, -0.5, -0.4, 0.0, 0.3, 1.2, 2.0, 3.9, 4.0, 4.2, 4.6, 6.0, 8.5, 9.2, 12.0)
        for y in (2.0, 4.4)
    ]
)
PAUSES = st.sampled_from([0, 0.2, 0.2, 0.5, 1, 1, 2, 3, 4, 5, 5.000001, 7, 9.999999, 10, 10.000001, 15])
LEGS = st.tuples(PAUSES, SPOTS, st.sampled_from([1, 1, 1, 2, 2, 3, 5, 12]))

ALONG = st.tuples(
    st.sampled_from([0.2, 0.5, 1, 4]),
    st.sampled_from([(2.0, 2.0), (3.9, 2.0), (4.1, 2.0), (4.4, 2.0), (3.7, 3.5), (4.3, 3.5), (6.0, 2.0), (7.0, 2.0)]),
    st.sampled_from([1, 1, 2, 3]),
)
"""Walking along the border that exclusive zones share."""


@dataclass
class Story:
    """What happens in a shop: fixes by subject, and records about zones and subjects, by time."""

    fixes: dict[str, list[Fix]]
    told: list[object]
    items: list[Item] = field(default_factory=list)


@st.composite
def stories(draw: st.DrawFn, edits: bool = True, legs: st.SearchStrategy[tuple] = LEGS) -> Story:
    fixes: dict[str, list[Fix]] = {}
    for subject in ("tag:1:a", "tag:1:b")[: draw(st.integers(1, 2))]:
        t, path = draw(st.sampled_from([0.0, 0.1, 3.0])), []
        for pause, (x, y), times in draw(st.lists(legs, min_size=1, max_size=14)):
            for _ in range(times):
                t = round(t + pause, 6)
                path.append(fix(t, x, y, subject))
        fixes[subject] = path
    last = max(path[-1].event_time for path in fixes.values())
    told: list[object] = []
    if edits:
        times = st.integers(T0 // S, last // S + 5).map(lambda s: s * S)
        for at in sorted(draw(st.lists(times, max_size=2, unique=True))):
            x0 = draw(st.sampled_from([4, 5, 1, -4]))
            told.append(
                msgspec.structs.replace(
                    rect("b", x0, 0, x0 + 4, 4, dwell_us=[10 * S], edge_max_us=8 * S),
                    event_time=at,
                    revision=len(told) + 1,
                )
            )
        handed = {"from_id": "tag:1:a", "to_id": "loyalty:1:x", "method": "BADGE_ISSUE"}
        told += [Link(event_time=at, valid_from=at, **handed) for at in draw(st.lists(times, max_size=2, unique=True))]
    story = Story(fixes, told)
    timed = [(r.event_time, 0, i, due(r)) for i, r in enumerate(told)]
    timed += [(f.event_time, 1, i, f) for path in fixes.values() for i, f in enumerate(path)]
    story.items = [item for *_, item in sorted(timed, key=lambda entry: entry[:3])]
    return story


def found(story: Story) -> list[tuple]:
    """What sort and scan say of a story."""
    out = []
    for subject, path in story.fixes.items():
        links = [Cut(r.event_time, "HANDOFF") for r in story.told if isinstance(r, Link) and r.from_id == subject]
        for zone in ZONES:
            revisions: list[tuple[int, Zone]] = [(0, zone)]
            cuts = list(links)
            for edit in story.told:
                if isinstance(edit, Zone) and edit.zone_id == zone.zone_id:
                    revisions.append((edit.event_time, edit))
                    before = [f for f in path if f.event_time < edit.event_time]
                    if before and distance(edit, before[-1].x_m, before[-1].y_m) > 0:
                        cuts.append(Cut(edit.event_time, "ZONE_CHANGED"))
            cuts.sort(key=lambda cut: (cut.at, cut.reason != "ZONE_CHANGED"))
            wanted = {*zone.dwell_us, *WANTED.get(zone.zone_id, ())}
            out += told(scan(revisions, path, sorted(wanted), cuts), zone, subject, path)
    return sorted(out)


def shop(kind: type[Dwell] = Dwell) -> Shop:
    return Shop(ZONES, wanted=WANTED, core=kind)


@LAWFUL
@given(stories())
def test_presence_tells_what_sorting_and_scanning_tells(story):
    assert sorted(said(shop().run(*story.items, END_MARK))) == found(story)


MANY = [
    rect("store", -3, -3, 13, 8, kind="STORE", dwell_us=[30 * S]),
    rect("left", 0, 0, 4, 5, exclusive_group="g", dwell_us=[3 * S, 8 * S], max_dwell_us=25 * S),
    rect("right", 4, 0, 8, 5, exclusive_group="g", valid_to=T0 + 90 * S),
    rect("above", 0, 0, 8, 5, floor=1.0, enter_fixes=1, enter_confirm_us=0),
    rect("late", 2, 0, 7, 5, valid_from=T0 + 20 * S, gap_us=4 * S, fresh_us=2 * S),
]


@st.composite
def full_stories(draw: st.DrawFn) -> Story:
    """Everything at once: floors, groups, hours, consents, hand-offs, thresholds, zones that come and go."""
    story = draw(stories())
    floors = st.sampled_from([0.0, 0.0, 0.0, 1.0])
    story.items = [
        msgspec.structs.replace(item, floor=draw(floors)) if isinstance(item, Fix) else item for item in story.items
    ]
    last = max(path[-1].event_time for path in story.fixes.values())
    records: list[object] = []
    for at in draw(st.lists(st.integers(T0 // S, last // S + 9), max_size=6)):
        record = draw(st.sampled_from(["consent", "link", "gone", "threshold", "site"]))
        when = {"event_time": at * S}
        if record == "consent":
            purposes = [Purpose(code="in_store_location", granted=draw(st.booleans()))]
            until = draw(st.none() | st.just((at + 11) * S))
            who = draw(st.sampled_from(["loyalty:1:x", "tag:1:b"]))
            records.append(Consent(identifier=who, purposes=purposes, valid_until=until, **when))
        elif record == "link":
            method = draw(st.sampled_from(["QR_PAIR", "BADGE_ISSUE", "BADGE_RETURN"]))
            records.append(Link(from_id="tag:1:a", to_id="loyalty:1:x", method=method, valid_from=at * S, **when))
        elif record == "gone":
            records.append(rect("late", 2, 0, 7, 5, deleted=draw(st.booleans()), revision=at, **when))
        elif record == "threshold":
            later = draw(st.sampled_from([0, 7])) * S
            records.append(Threshold(zone_id="left", dwell_us=[5 * S, 9 * S], effective_at=at * S + later, **when))
        else:
            records.append(site(opening=["Mo-Su 08:00-15:32"], revision=1, **when))
    story.told += records
    timed = [(r.event_time, 0, i, due(r)) for i, r in enumerate(records)]
    timed += [(time_of(item), 1, i, item) for i, item in enumerate(story.items)]
    story.items = [item for *_, item in sorted(timed, key=lambda entry: entry[:3])]
    return story


def time_of(item: Item) -> int:
    return item.event_time if isinstance(item, Fix) else item.event.record.event_time


def full_shop() -> Shop:
    """A shop whose stays end at 16:01 UTC, a minute after T0, or at 16:02 once its site says so."""
    return Shop(MANY, wanted=WANTED, site=site(opening=["Mo-Su 08:00-15:31"]))


@LAWFUL
@given(full_stories(), st.lists(st.floats(0, 400), max_size=60), st.booleans())
def test_how_often_the_watermark_is_told_never_matters(story, marks, exactly):
    """Watermarks anywhere, also at the very instants of fixes, change nothing in any record."""
    plain = full_shop().run(*story.items, END_MARK)
    told_at = [mark(t) for t in marks]
    if exactly:
        told_at += [mark((item.event_time - T0) / S) for item in story.items if isinstance(item, Fix)]
    timed = [(time_of(item), 1, i, item) for i, item in enumerate(story.items)]
    timed += [(m.at, 0, i, m) for i, m in enumerate(told_at)]
    items = [item for *_, item in sorted(timed, key=lambda entry: entry[:3])]
    assert full_shop().run(*items, END_MARK) == plain


@LAWFUL
@given(full_stories(), st.lists(st.integers(0, 150), max_size=4))
def test_stopping_and_starting_anywhere_never_matters(story, stops):
    whole = full_shop().run(*story.items, END_MARK)
    again, parts = full_shop(), []
    for i, item in enumerate(story.items):
        if i in stops:
            again.restart()
        parts += again.run(item)
    again.restart()
    assert parts + again.run(END_MARK) == whole


@LAWFUL
@given(full_stories())
def test_every_visit_is_entered_once_and_left_once_and_nothing_is_kept_at_the_end(story):
    there = full_shop()
    records = there.run(*story.items, END_MARK)
    entered = [r.visit_id for r in records if isinstance(r, Transition) and r.kind == "ENTER"]
    left = [r.visit_id for r in records if isinstance(r, Transition) and r.kind == "EXIT"]
    assert sorted(entered) == sorted(left) == sorted(r.visit_id for r in records if isinstance(r, Visit))
    assert len({r.event_id for r in records}) == len(records)
    assert dict(there.dwell._subjects.items()) == {}


@LAWFUL
@given(stories(edits=False), st.integers(0, 60), st.sampled_from([3, 8, 25]))
def test_a_threshold_added_during_a_stay_fires_only_where_its_time_lies_ahead(story, at, after):
    added = Threshold(event_time=T0 + at * S, zone_id="a", dwell_us=[after * S], effective_at=T0 + at * S)
    items = [i for i in story.items if i.event_time < added.event_time]
    items += [due(added), *(i for i in story.items if i.event_time >= added.event_time)]
    records = said(shop().run(*items, END_MARK))
    plain = said(shop().run(*story.items, END_MARK))
    extra = [r for r in records if r[0] == "DWELL" and r[4] == after * S and r[2] == "a"]
    assert [r for r in records if r[0] in ("ENTER", "EXIT")] == [r for r in plain if r[0] in ("ENTER", "EXIT")]
    everything = Shop(ZONES, wanted={**WANTED, "a": (*WANTED["a"], after * S)})
    always = [
        r for r in said(everything.run(*story.items, END_MARK)) if r[0] == "DWELL" and r[4] == after * S and r[2] == "a"
    ]
    assert extra == [r for r in always if r[3] + after * S > added.event_time]


# -- zones of which at most one may hold a subject

GROUP = {"exclusive_group": "g", "dwell_us": [3 * S, 12 * S]}
TILES = [
    rect("left", 0, 0, 4, 4, **GROUP),
    rect("right", 4, 0, 8, 4, priority=1, **GROUP),
    rect("shelf", 2, 1, 6, 3, enter_confirm_us=2 * S, **GROUP),
]


def grouped(path: list[Fix]) -> list[tuple]:
    """What sort and scan say of one subject among the tiles."""
    subject = path[0].subject_id
    by_zone = scan_group(TILES, path)
    return sorted(row for zone in TILES for row in told(by_zone[zone.zone_id], zone, subject, path))


BORDERS = stories(edits=False) | stories(edits=False, legs=ALONG)


def agreed(story: Story) -> bool:
    fixes = [item for item in story.items if isinstance(item, Fix)]
    rows = sorted(row for path in story.fixes.values() for row in grouped(path))
    return sorted(said(Shop(TILES).run(*fixes, END_MARK))) == rows


@LAWFUL
@given(BORDERS)
def test_exclusive_zones_tell_what_sorting_and_scanning_tells(story):
    assert agreed(story)


@LAWFUL
@given(BORDERS)
def test_no_two_visits_of_an_exclusive_group_overlap(story):
    visits = [r for r in Shop(TILES).run(*story.items, END_MARK) if isinstance(r, Visit)]
    for subject in story.fixes:
        spans = sorted((v.entered_at, v.left_at) for v in visits if v.subject_id == subject)
        assert all(left <= entered for (_, left), (entered, _) in pairwise(spans))


# -- known faults, put back


class KeepsCandidatesThroughEdges(Dwell):
    """A candidate lives on edge fixes, however long ago its last in-fix was."""

    def _run(self, limit: int) -> None:
        for s in dict(self._subjects.items()).values():
            for stay in s.stays.values():
                if stay.state is State.CAND:
                    stay.last_deep = max(stay.last_deep, s.at)
        super()._run(limit)


class ForgetsToBackDate(Dwell):
    """A visit begins when it is confirmed."""

    def _tell(self, s, subject, t, outcome):
        for zone_id in outcome.opening:
            s.stays[zone_id].run = t
        super()._tell(s, subject, t, outcome)


class LooksOnceASilence(Dwell):
    """One check of the thresholds of a silence: the second is lost to the gap."""

    def _ripened(self, subject, s, zone_id, due):
        super()._ripened(subject, s, zone_id, due)
        stay = s.stays.get(zone_id)
        if stay is not None and stay.fired and stay.fired[-1] + stay.entered_at == due:
            stay.held = True


class ClosesAtTheGap(Dwell):
    """A fix exactly `gap` after the last one comes too late."""

    def _advance(self, at: int) -> None:
        self._at = max(self._at, at)
        self._run(2 * at + 1)


class FiresWhenStale(Dwell):
    """A threshold fires in silence however old the last fix is."""

    def _ripened(self, subject, s, zone_id, due):
        stay = s.stays[zone_id]
        if stay.state is State.IN and stay.pending and stay.entered_at + stay.pending[0] <= due:
            self._say.fired(subject, zone_id, stay, s, due, due)
        super()._ripened(subject, s, zone_id, due)


class FiresInGrace(Dwell):
    """A threshold fires although the subject has been seen outside."""

    def _ripened(self, subject, s, zone_id, due):
        stay = s.stays[zone_id]
        if (
            stay.state is State.GRACE
            and stay.pending
            and due - s.at <= 5 * S
            and stay.entered_at + stay.pending[0] <= due
        ):
            self._say.fired(subject, zone_id, stay, s, due, due)
        super()._ripened(subject, s, zone_id, due)


def _late_ripeness(stay, t, how):
    return t - stay.run > how.enter_confirm_us and stay.n >= how.enter_fixes


def _late_leave(stay, t, last, inside, outside, how, count):
    if stay.state is State.GRACE and outside and t - stay.run == how.exit_confirm_us:
        how = msgspec.structs.replace(how, exit_confirm_us=how.exit_confirm_us + 1)
    return heard(stay, t, last, inside, outside, how, count)


def _no_loitering(stay, t, last, inside, outside, how, count):
    return heard(stay, t, last, inside, outside, msgspec.structs.replace(how, edge_max_us=END), count)


def _grace_counts(stay, t, last, inside, outside, how, count):
    moved = heard(stay, t, last, inside, outside, how, count)
    if moved is Moved.LEFT:
        stay.kept.at, stay.kept.fixes = t, count - stay.base
    return moved


class _ClosesWhereItWasSeen(moves.Moves):
    """A take-over ends the incumbent at its last supporting fix: the border counts twice."""

    def _challenge(self, s, fix, last, incumbent, rivals, d_of, outcome):
        super()._challenge(s, fix, last, incumbent, rivals, d_of, outcome)
        if incumbent in outcome.closing and outcome.closing[incumbent][1] == "TAKEOVER":
            stay = outcome.closing[incumbent][0]
            kept = stay.kept or figures(stay, fix.event_time, s.count)
            outcome.closing[incumbent] = (stay, "TAKEOVER", kept)


class _KeepsItsRun(moves.Moves):
    """A challenger's run goes on through fixes that are not deeper in it."""

    def _challenge(self, s, fix, last, incumbent, rivals, d_of, outcome):
        before = {zone_id: s.stays[zone_id] for zone_id in rivals if zone_id in s.stays}
        super()._challenge(s, fix, last, incumbent, rivals, d_of, outcome)
        if incumbent not in outcome.closing:
            s.stays = {**before, **s.stays}


@pytest.mark.parametrize("fault", [_ClosesWhereItWasSeen, _KeepsItsRun])
def test_the_oracle_catches_a_fault_among_exclusive_zones(fault, monkeypatch):
    monkeypatch.setattr("operators.dwell.Moves", fault)
    assert _fails(agreed, BORDERS)


def caught(kind: type[Dwell] = Dwell) -> bool:
    """Whether some story makes the core differ from the oracle."""
    return _fails(lambda story: sorted(said(shop(kind).run(*story.items, END_MARK))) == found(story), stories())


def _fails(agree: Callable[[Story], bool], among: st.SearchStrategy[Story]) -> bool:
    @settings(LAWFUL, max_examples=600, phases=(Phase.generate,))
    @given(among)
    def compare(story: Story) -> None:
        assert agree(story)

    try:
        compare()
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize(
    "fault",
    [KeepsCandidatesThroughEdges, ForgetsToBackDate, LooksOnceASilence, ClosesAtTheGap, FiresWhenStale, FiresInGrace],
)
def test_the_oracle_catches_a_known_fault(fault):
    """A fault put back by hand is seen, so the comparison is worth its time."""
    assert caught(fault)


@pytest.mark.parametrize("name", ["ripe", "heard-late", "heard-loitering", "heard-kept"])
def test_the_oracle_catches_a_fault_of_the_machine(name, monkeypatch):
    wrong = {
        "ripe": _late_ripeness,
        "heard-late": _late_leave,
        "heard-loitering": _no_loitering,
        "heard-kept": _grace_counts,
    }
    if name == "ripe":
        monkeypatch.setattr("operators.stays.stay.ripe", wrong[name])
    monkeypatch.setattr(moves, name.split("-")[0], wrong[name])
    assert caught()
