"""Failures of presence, by name: each has cost somebody a wrong trigger. Times are seconds after T0."""

import pytest

from schemas.derived import DwellReached, Transition, Visit
from schemas.reference import Consent, Link, Purpose, Threshold
from tests.oracles.presence import END_MARK, T0, S, Shop, due, fix, mark, rect, site

OFFERS = rect("offers", 0, 0, 6, 6, dwell_us=[45 * S])
IN, EDGE, OUT = (3.0, 3.0), (6.3, 3.0), (9.0, 3.0)
HZ = 5


def stand(start: float, stop: float, where=IN, hertz: float = HZ, **more):
    """Fixes at one place from start to stop, both included."""
    return [fix(start + i / hertz, *where, **more) for i in range(round((stop - start) * hertz) + 1)]


def at(seconds: float) -> int:
    return T0 + round(seconds * S)


def dwells(records):
    return [(r.zone_id, r.threshold_us // S, (r.fired_at - T0) / S) for r in records if isinstance(r, DwellReached)]


def visits(records):
    return [
        (r.zone_id, (r.entered_at - T0) / S, (r.left_at - T0) / S, r.enter_reason, r.exit_reason)
        for r in records
        if isinstance(r, Visit)
    ]


def test_one_wild_fix_while_standing_is_no_leaving():
    items = [*stand(0, 20), fix(20.2, *OUT), *stand(20.4, 50), END_MARK]
    records = Shop([OFFERS]).run(*items)
    assert visits(records) == [("offers", 0, 50, "FIRST_HEARD", "TIMEOUT")]
    assert dwells(records) == [("offers", 45, 45)]


def test_a_device_that_lies_still_on_the_border_does_not_flicker():
    zone = rect("offers", 0, 0, 6, 6, dwell_us=[45 * S], exit_margin_m=0.0)
    jitter = [fix(5 + i / HZ, 6.0 + (0.01 if i % 3 else 0.0), 3.0) for i in range(1, 60 * HZ)]
    records = Shop([zone]).run(*stand(0, 5), *jitter, END_MARK)
    assert visits(records) == [("offers", 0, 64.4, "FIRST_HEARD", "TIMEOUT")]
    assert dwells(records) == [("offers", 45, 45.2)]  # held by one fix outside


def test_minutes_of_edge_fixes_after_one_in_fix_confirm_nothing():
    """A candidate kept through them would open back-dated, and tell 45 s at once."""
    items = [fix(0, *IN), *stand(1, 180, EDGE, hertz=1), *stand(181, 190)]
    records = Shop([OFFERS]).run(*items)
    assert dwells(records) == []
    (enter,) = records
    assert (enter.kind, enter.at) == ("ENTER", at(181))


def test_loitering_beside_a_zone_is_not_presence():
    records = Shop([OFFERS]).run(*stand(0, 10), *stand(10.2, 120, EDGE), END_MARK)
    assert visits(records) == [("offers", 0, 40, "FIRST_HEARD", "LEFT")]
    assert Shop([OFFERS]).run(*stand(0, 120, EDGE), END_MARK) == []


def test_a_tag_that_sleeps_while_still_is_waited_for():
    zone = rect("offers", 0, 0, 6, 6, dwell_us=[45 * S], gap_us=75 * S, fresh_us=75 * S)
    records = Shop([zone]).run(*stand(0, 3), mark(45), mark(60), *stand(65, 70, OUT), mark(200))
    assert dwells(records) == [("offers", 45, 45)]
    assert visits(records)[0][1:3] == (0, 3)


def test_two_thresholds_in_one_silence_both_fire_before_the_gap_closes():
    zone = rect("offers", 0, 0, 6, 6, dwell_us=[12 * S, 14 * S, 30 * S])
    shop = Shop([zone])
    records = shop.run(*stand(0, 10), mark(60))
    assert dwells(records) == [("offers", 12, 12), ("offers", 14, 14)]
    assert visits(records) == [("offers", 0, 10, "FIRST_HEARD", "TIMEOUT")]
    (visit,) = [r for r in records if isinstance(r, Visit)]
    assert visit.event_time == at(20)
    assert visit.fired_us == [12 * S, 14 * S]


def test_a_fix_exactly_when_a_threshold_is_due_comes_after_it():
    (told,) = [r for r in Shop([OFFERS]).run(*stand(0, 45)) if isinstance(r, DwellReached)]
    assert (told.fired_at, told.last_fix_at, told.fix_count) == (at(45), at(44.8), 225)
    assert told.quality == pytest.approx(44.8 / 45)


def test_a_watermark_exactly_at_a_due_time_fires_and_one_before_does_not():
    shop = Shop([OFFERS])
    assert dwells(shop.run(*stand(0, 44), mark(44.999999))) == []
    assert dwells(shop.run(mark(45))) == [("offers", 45, 45)]
    assert dwells(shop.run(mark(45), fix(45, *IN))) == []


def test_a_fix_exactly_at_the_gap_keeps_the_stay_and_one_later_does_not():
    kept = Shop([OFFERS]).run(*stand(0, 5), mark(15), *stand(15, 20), END_MARK)
    assert visits(kept) == [("offers", 0, 20, "FIRST_HEARD", "TIMEOUT")]
    ended = Shop([OFFERS]).run(*stand(0, 5), *stand(15.000001, 20), END_MARK)
    assert [v[2] for v in visits(ended)] == [5, 20.000001 - 0.000000]
    assert [v[3] for v in visits(ended)] == ["FIRST_HEARD", "FIRST_HEARD"]


def test_who_starts_inside_is_first_heard_and_who_walks_in_has_crossed():
    assert visits(Shop([OFFERS]).run(*stand(0, 5), END_MARK))[0][3] == "FIRST_HEARD"
    assert visits(Shop([OFFERS]).run(fix(0, *OUT), *stand(1, 5), END_MARK))[0][3] == "CROSSED"
    assert visits(Shop([OFFERS]).run(fix(0, *OUT), *stand(10.1, 15), END_MARK))[0][3] == "FIRST_HEARD"


def test_a_return_at_the_due_time_tells_the_threshold_with_the_returning_fix():
    items = [*stand(0, 44), fix(44.5, *OUT), fix(45, *IN)]
    assert dwells(Shop([OFFERS]).run(*items)) == [("offers", 45, 45)]
    late = [*stand(0, 44), fix(44.5, *OUT), fix(45.5, *EDGE), *stand(46, 50)]
    (told,) = [r for r in Shop([OFFERS]).run(*late) if isinstance(r, DwellReached)]
    assert (told.reached_at, told.fired_at, told.last_fix_at) == (at(45), at(45.5), at(45.5))


def test_a_threshold_held_while_stale_says_nothing_of_quality_after_ten_seconds():
    zone = rect("offers", 0, 0, 6, 6, dwell_us=[20 * S], gap_us=60 * S)
    (told,) = [r for r in Shop([zone]).run(*stand(0, 12), fix(31, *IN)) if isinstance(r, DwellReached)]
    assert (told.fired_at, told.quality) == (at(31), 0.0)


def test_leaving_cancels_what_was_held():
    records = Shop([OFFERS]).run(*stand(0, 44), *stand(44.2, 60, OUT), END_MARK)
    assert dwells(records) == []
    assert visits(records) == [("offers", 0, 44, "FIRST_HEARD", "LEFT")]


def test_nobody_is_in_the_hole_of_a_zone():
    ring = rect("ring", 0, 0, 9, 9, (3, 3, 6, 6))
    records = Shop([ring]).run(*stand(0, 5, (1, 1)), *stand(5.2, 12, (4.5, 4.5)), END_MARK)
    assert visits(records) == [("ring", 0, 5, "FIRST_HEARD", "LEFT")]


def test_nested_free_zones_make_two_visits_and_nested_exclusive_ones_one():
    shelf = rect("shelf", 2, 2, 5, 5)
    both = visits(Shop([OFFERS, shelf]).run(*stand(0, 5), END_MARK))
    assert [v[0] for v in both] == ["offers", "shelf"]
    group = {"exclusive_group": "g"}
    exclusive = [rect("wide", 0, 0, 6, 6, **group), rect("shelf", 2, 2, 5, 5, priority=1, **group)]
    once = visits(Shop(exclusive).run(*stand(0, 5, (3.5, 3)), END_MARK))
    assert [v[0] for v in once] == ["wide"]  # deeper: 2.5 m against 1


# -- tags, floors, hours


def test_a_tag_left_on_a_shelf_opens_nothing_until_it_has_moved():
    zone = rect("offers", 0, 0, 6, 6, max_dwell_us=60 * S)
    shop = Shop([zone, rect("shelf", 2, 2, 4, 4)])
    records = shop.run(*stand(0, 200), *stand(200.2, 210, (5, 5)))
    assert visits(records) == [
        ("offers", 0, 59.8, "FIRST_HEARD", "MAX_DWELL"),
        ("shelf", 0, 200, "FIRST_HEARD", "LEFT"),
    ]
    shop.restart()
    again = shop.run(*stand(210.2, 215, (5.9, 5.0)))
    assert [r.zone_id for r in again if isinstance(r, Transition)] == ["offers"]
    assert again[0].at == at(210.2)


def test_a_silent_tag_is_not_left_for_four_hours():
    zone = rect("offers", 0, 0, 6, 6, max_dwell_us=12 * S)
    records = Shop([zone]).run(*stand(0, 5), mark(100))
    assert visits(records) == [("offers", 0, 5, "FIRST_HEARD", "MAX_DWELL")]
    assert records[-1].event_time == at(12)


def test_a_floor_that_flickers_ends_and_opens_nothing():
    above = rect("above", 0, 0, 6, 6, floor=1.0)
    flicker = [fix(20 + i / HZ, *IN, floor=1.0) for i in range(4 * HZ)]
    records = Shop([OFFERS, above]).run(*stand(0, 19.8), *flicker, *stand(24, 50), END_MARK)
    assert visits(records) == [("offers", 0, 50, "FIRST_HEARD", "TIMEOUT")]
    assert dwells(records) == [("offers", 45, 45)]


def test_a_new_floor_counts_when_it_has_held_for_five_seconds():
    above = rect("above", 0, 0, 6, 6, floor=1.0)
    records = Shop([OFFERS, above]).run(*stand(0, 20), *stand(20.2, 40, floor=1.0), END_MARK)
    assert visits(records) == [
        ("offers", 0, 20, "FIRST_HEARD", "FLOOR_CHANGE"),
        ("above", 25.2, 40, "CROSSED", "TIMEOUT"),
    ]
    left = next(r for r in records if isinstance(r, Visit))
    assert (left.event_time, left.fix_count, left.observed_us) == (at(25.2), 101, 20 * S)


def test_the_shop_closes_half_an_hour_after_its_hours():
    """T0 is Saturday 16:00 UTC; the shop closes at 17:00."""
    shop = Shop([rect("store", 0, 0, 6, 6)], site=site(opening=["Mo-Sa 09:00-17:00"]))
    records = shop.run(*stand(5390, 5402))
    assert visits(records) == [("store", 5390, 5399.8, "FIRST_HEARD", "STORE_CLOSED")]
    assert next(r for r in records if isinstance(r, Visit)).event_time == at(5400)
    assert records[-1].kind == "ENTER"  # who still moves is heard anew


def test_on_the_night_the_clock_goes_back_the_shop_closes_by_its_own_clock():
    """In Madrid 02:00 on 25 October 2026 comes after 3 h more of UTC than 23:00; the bar closes at 04:00, UTC+1."""
    shop = Shop(
        [rect("bar", 0, 0, 6, 6, gap_us=3600 * S)], site=site(opening=["Sa 20:00-04:00"], time_zone="Europe/Madrid")
    )
    start = (1_792_886_400 * S - T0) / S  # 2026-10-25T00:00Z, 02:00 local, before the change
    records = shop.run(
        *stand(start, start + 20, hertz=1), *stand(start + 3590, start + 3600, hertz=1), mark(start + 4 * 3600)
    )
    assert [v[3:] for v in visits(records)] == [("FIRST_HEARD", "TIMEOUT")]
    shop = Shop([rect("bar", 0, 0, 6, 6, gap_us=6 * 3600 * S)], site=shop.site)
    (closed,) = [
        r for r in shop.run(*stand(start, start + 20, hertz=1), mark(start + 6 * 3600)) if isinstance(r, Visit)
    ]
    assert closed.exit_reason == "STORE_CLOSED"
    assert closed.event_time == at(start + 3.5 * 3600)  # 03:30Z = 04:30 local, half an hour after 04:00


# -- zones that change, and hand-offs


def moved(seconds, zone_id="offers", *box, **more):
    return due(rect(zone_id, *box, event_time=at(seconds), **{"revision": 1, "dwell_us": [45 * S], **more}))


def test_an_edit_around_who_is_inside_keeps_the_visit_under_its_new_revision():
    records = Shop([OFFERS]).run(*stand(0, 20), moved(20.1, "offers", 1, 1, 8, 8), *stand(20.2, 50), END_MARK)
    assert visits(records) == [("offers", 0, 50, "FIRST_HEARD", "TIMEOUT")]
    assert [r.zone_revision for r in records] == [0, 1, 1, 1]


def test_a_zone_that_moves_away_closes_its_visits():
    records = Shop([OFFERS]).run(*stand(0, 20), moved(20.1, "offers", 4, 4, 9, 9), *stand(20.2, 50), END_MARK)
    assert visits(records) == [("offers", 0, 20, "FIRST_HEARD", "ZONE_CHANGED")]
    assert records[1].event_time == at(20.1)


def test_a_zone_deleted_or_expired_closes_its_visits_and_stays_away_after_a_restart():
    shop = Shop([OFFERS])
    records = shop.run(*stand(0, 20), moved(20.1, "offers", 0, 0, 6, 6, deleted=True))
    shop.restart()
    assert visits(records + shop.run(*stand(20.2, 50))) == [("offers", 0, 20, "FIRST_HEARD", "ZONE_CHANGED")]
    shop = Shop([rect("offers", 0, 0, 6, 6, valid_to=at(30))])
    records = shop.run(*stand(0, 20))
    shop.restart()
    records += shop.run(*stand(20.2, 50))
    assert visits(records) == [("offers", 0, 29.8, "FIRST_HEARD", "ZONE_CHANGED")]
    assert records[-1].event_time == at(30)


def test_a_zone_added_around_who_stands_there_begins_with_the_next_fix():
    shop = Shop([rect("store", -9, -9, 9, 9)])
    records = shop.run(*stand(0, 20), moved(20.1, "new", 1, 1, 5, 5, valid_from=at(25.1)))
    shop.restart()
    records += shop.run(*stand(20.2, 40), END_MARK)
    assert ("new", 25.2, 40, "CROSSED", "TIMEOUT") in visits(records)


def test_an_old_revision_changes_nothing():
    shop = Shop([rect("offers", 0, 0, 6, 6, revision=7)])
    assert visits(shop.run(*stand(0, 20), moved(20.1, "offers", 7, 7, 9, 9), *stand(20.2, 50), END_MARK))[0][2] == 50


def test_a_threshold_that_takes_effect_later_and_one_that_is_withdrawn():
    shop = Shop([rect("offers", 0, 0, 6, 6)])
    ask = Threshold(event_time=at(1), zone_id="offers", dwell_us=[5 * S, 15 * S, 25 * S], effective_at=at(10))
    less = Threshold(event_time=at(20), zone_id="offers", dwell_us=[15 * S], effective_at=at(20))
    records = shop.run(due(ask), *stand(0, 19.8))
    shop.restart()
    assert dwells(records + shop.run(due(less), *stand(20, 50))) == [("offers", 15, 15)]


def link(seconds, **more):
    base = {"from_id": "tag:1:a", "to_id": "loyalty:1:x", "method": "BADGE_ISSUE"}
    return due(Link(**{"event_time": at(seconds), "valid_from": at(seconds), **base, **more}))


def test_a_hand_off_in_mid_stay_makes_two_visits():
    records = Shop([OFFERS]).run(*stand(0, 30), link(30.1), *stand(30.2, 60), END_MARK)
    assert visits(records) == [
        ("offers", 0, 30, "FIRST_HEARD", "HANDOFF"),
        ("offers", 30.2, 60, "CROSSED", "TIMEOUT"),
    ]
    assert dwells(records) == []
    for more in ({"method": "BADGE_RETURN"}, {"method": "QR_PAIR", "revoked": True}):
        assert visits(Shop([OFFERS]).run(*stand(0, 30), link(30.1, **more)))[0][4] == "HANDOFF"
    assert visits(Shop([OFFERS]).run(*stand(0, 30), link(30.1, method="QR_PAIR"))) == []


def test_a_hand_off_ends_no_visit_before_it_began():
    shop = Shop([OFFERS])
    assert visits(shop.run(*stand(0, 30), link(30.1, valid_from=at(12))))[0][1:3] == (0, 12)
    assert visits(Shop([OFFERS]).run(*stand(0, 30), link(30.1, valid_from=at(-5))))[0][1:3] == (0, 0)


# -- who may be tracked


def consent(seconds, granted=True, identifier="loyalty:1:x", **more):
    purposes = [] if granted is None else [Purpose(code="in_store_location", granted=granted)]
    return due(Consent(event_time=at(seconds), identifier=identifier, purposes=purposes, **more))


TIED = link(-10, method="QR_PAIR")


@pytest.mark.parametrize(
    ("basis", "told", "tracked"),
    [
        ("CONSENT", [], True),
        ("CONSENT", [TIED], False),
        ("CONSENT", [TIED, consent(-9)], True),
        ("CONSENT", [consent(-9), TIED], True),
        ("CONSENT", [TIED, consent(-9, None)], False),
        ("CONSENT", [TIED, consent(-9, False)], False),
        ("CONSENT", [consent(-9, None, "tag:1:a")], False),
        ("CONSENT", [TIED, consent(-9), consent(-8, withdrawn=True)], False),
        ("CONSENT", [TIED, consent(-9, valid_until=at(-1))], False),
        ("PSEUDONYMOUS", [TIED], True),
        ("PSEUDONYMOUS", [TIED, consent(-9, None)], True),
        ("PSEUDONYMOUS", [TIED, consent(-9, False)], False),
        ("PSEUDONYMOUS", [TIED, consent(-9, withdrawn=True)], False),
        ("UNKNOWN", [TIED], True),
        ("COUNTS_ONLY", [], False),
    ],
)
def test_who_is_tracked_follows_the_legal_basis_and_the_consent_of_the_person(basis, told, tracked):
    shop = Shop([OFFERS], site=site(legal_basis=basis))
    assert bool(shop.run(*told, *stand(0, 10))) is tracked
    shop.restart()
    assert bool(dict(shop.dwell._subjects.items())) is tracked


def test_a_random_radio_address_is_nobody():
    assert Shop([OFFERS]).run(*stand(0, 10, subject="track:1:a"), END_MARK) == []


def test_a_withdrawal_ends_all_stays_at_once_and_keeps_nothing():
    shop = Shop([OFFERS, rect("store", -9, -9, 20, 9)], site=site(legal_basis="CONSENT"))
    records = shop.run(TIED, consent(-9), *stand(0, 20), consent(20.1, withdrawn=True), *stand(20.2, 60), END_MARK)
    assert visits(records) == [
        ("offers", 0, 20, "FIRST_HEARD", "WITHDRAWN"),
        ("store", 0, 20, "FIRST_HEARD", "WITHDRAWN"),
    ]
    assert {r.event_time for r in records if isinstance(r, Visit)} == {at(20.1)}
    assert dict(shop.dwell._subjects.items()) == {}


def test_a_consent_that_runs_out_ends_the_stay_at_that_instant():
    shop = Shop([OFFERS], site=site(legal_basis="CONSENT"))
    records = shop.run(TIED, consent(-9, valid_until=at(33)), *stand(0, 60))
    assert visits(records) == [("offers", 0, 32.8, "FIRST_HEARD", "WITHDRAWN")]
    assert records[-1].event_time == at(33)


def test_what_is_sensitive_is_neither_told_nor_kept():
    shop = Shop([OFFERS, rect("pharmacy", 20, 0, 26, 6, sensitive=True, dwell_us=[S])])
    assert shop.run(*stand(0, 20, (23, 3)), END_MARK) == []
    assert dict(shop.dwell._subjects.items()) == {}


# -- stopping, ends and crowds


def test_a_drain_in_mid_stay_closes_nothing_and_overdue_timers_ring_after_a_restart():
    shop = Shop([OFFERS])
    assert len(shop.run(*stand(0, 44))) == 1
    shop.restart()
    records = shop.run(mark(300))
    assert dwells(records) == [("offers", 45, 45)]
    assert visits(records) == [("offers", 0, 44, "FIRST_HEARD", "TIMEOUT")]


@pytest.mark.parametrize(("end", "closed"), [("close", 1), ("all", 1), ("keep", 0)])
def test_the_end_of_a_replay_closes_as_silence_would_or_keeps(end, closed):
    records = Shop([OFFERS], end=end).run(*stand(0, 44), END_MARK)
    assert len(visits(records)) == len(dwells(records)) == closed


def test_ten_thousand_subjects_silent_at_once_ring_in_order_and_are_forgotten():
    zone = rect("offers", 0, 0, 6, 6, dwell_us=[5 * S])
    shop = Shop([zone])
    names = [f"tag:1:{i:05}" for i in range(10_000)]
    shop.run(*[fix(t, *IN, subject=name) for t in (0, 1, 2) for name in reversed(names)])
    records = shop.run(mark(5), mark(13))
    assert [r.subject_id for r in records if isinstance(r, DwellReached)] == names
    assert [r.subject_id for r in records if isinstance(r, Visit)] == names
    assert dict(shop.dwell._subjects.items()) == {}


def test_a_derived_record_was_heard_when_the_fix_that_decided_it_was():
    records = Shop([OFFERS]).run(*[fix(i / HZ, *IN, ingest_time=at(i / HZ + 0.7)) for i in range(44 * HZ)], mark(90))
    by_kind = {type(r).__name__: (r.event_time, r.ingest_time) for r in records}
    assert (records[0].event_time, records[0].ingest_time) == (at(1), at(1.7))
    assert by_kind["DwellReached"] == (at(45), at(45))
    assert by_kind["Visit"] == (at(53.8), at(53.8))
