"""Guards, caps and arbitration as the plain functions they are."""

import pytest
from msgspec.structs import replace

from operators.decisions import guards
from operators.decisions.arbitration import Arm, Entrant, meet, walk
from operators.decisions.caps import Ledger, in_window
from operators.decisions.guards import Answer
from operators.decisions.releases import Releases
from operators.decisions.screens import Screens
from operators.rules.campaigns import Stock
from operators.state.memory import MemoryStore
from operators.state.store import Tables
from schemas.person import DENIED, EXPIRED, UNSET, WITHDRAWN, Consents
from schemas.reference import ContextFact, Device, Release
from tests.unit.deciding import CARD, COOKIE, TAG, VENUE, H, S, person, square


@pytest.fixture
def tables():
    store = MemoryStore()
    store.claim(None)
    store.open("0")
    return Tables(store)


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ([UNSET], "CONSENT_MISSING"),
        ([DENIED], "CONSENT_MISSING"),
        ([EXPIRED], "CONSENT_EXPIRED"),
        ([EXPIRED, UNSET], "CONSENT_MISSING"),
        ([EXPIRED, WITHDRAWN], "CONSENT_WITHDRAWN"),
    ],
)
def test_why_a_purpose_is_not_granted(states, reason):
    assert guards.consent_reason(states) == reason


def test_consent_names_what_is_missing_in_guard_order():
    answer = guards.consent(
        ["profiling", "personalisation"], Consents({"personalisation": "GRANTED"}, {}, epoch="e"), [("contact", UNSET)]
    )
    assert answer == Answer(
        "needs profiling,personalisation missing profiling,contact epoch e", "CONSENT_MISSING", "profiling,contact"
    )


@pytest.mark.parametrize("who", [person(TAG), person(COOKIE, TAG)])
def test_a_thing_is_nobody_however_sure_we_are_of_it(who):
    assert guards.identity("candidate", who).reason == "IDENTITY_TOO_WEAK"
    assert not guards.identity("anyone", who).refuses


def test_stock_of_nothing_is_unknown():
    rule = Stock("zone.category", 1.0, None)
    fact = ContextFact(event_time=0, scope="mad-01", name="stock.x", value="2", valid_until=10 * H)
    assert guards.stock(rule, None, S, fact).reason == "STOCK_UNKNOWN"
    assert guards.stock(rule, "x", S, None).reason == "STOCK_UNKNOWN"
    assert guards.stock(rule, "x", 9 * H, fact).reason == "NONE", "no age was asked for"
    assert guards.stock(rule, "x", 10 * H, fact).reason == "STOCK_UNKNOWN"


@pytest.mark.parametrize(
    ("charges", "at", "used"),
    [([], 10, 0), ([10], 10, 1), ([0], 10, 0), ([1], 10, 1), ([12, 19], 10, 2), ([20], 10, 0), ([3, 12], 10, 2)],
)
def test_a_window_is_half_open_and_one_that_ends_later_counts_too(charges, at, used):
    assert in_window(charges, at, 10) == used


def test_a_ledger_adds_on_merge_returns_on_split_and_forgets_what_is_old(tables):
    ledger = Ledger(tables.table(1, dict[str, list[int]]), 100)
    for member, at in (("a", 5), ("b", 3), ("a", 4)):
        ledger.charge(member, "any", at)
    assert ledger.of(["a", "b"], "any") == [3, 4, 5]
    assert ledger.of(["b"], "any") == [3]
    ledger.give_back("a", "any", 4)
    ledger.give_back("a", "any", 99)
    assert ledger.of(["a"], "any") == [5]
    ledger.charge("a", "any", 105)
    assert ledger.of(["a"], "any") == [5, 105]
    ledger.charge("a", "any", 106)
    assert ledger.of(["a"], "any") == [105, 106]


def test_the_walk_goes_on_past_who_is_held_out_and_who_cannot_win():
    places = walk(
        [
            Entrant("held", "g", 90, held="HELD_OUT"),
            Entrant("capped", "g", 80),
            Entrant("wins", "g", 70),
            Entrant("late", "g", 60),
        ],
        lambda entrant: ("CAP_ANY", "any") if entrant.campaign_id == "capped" else None,
    )
    assert [(name, place.rank, place.verdict, place.reason, place.detail) for name, place in places.items()] == [
        ("held", 1, "HELD_OUT", "HELD_OUT", None),
        ("capped", 2, "SUPPRESSED", "CAP_ANY", "any"),
        ("wins", 3, "FIRED", "NONE", None),
        ("late", 4, "OUTRANKED", "OUTRANKED", "wins"),
    ]


def test_equal_arms_that_meet_stay_and_others_are_mixed():
    treated, control = Arm("treated", 7000, held=False), Arm("control", 5, held=True)
    assert meet([treated, Arm("treated", 8000, held=False)]) == treated
    assert meet([control]) == control
    assert meet([treated, control]) == Arm("mixed", 7000, held=True)


def test_releases_hold_from_their_event_time_on(tables):
    releases = Releases(tables, 1)
    for at, name, state in ((10, "one", "PAUSED"), (20, "one", "ACTIVE"), (15, "campaigns", "PAUSED")):
        releases.put(Release(event_time=0, kind="CAMPAIGNS", name=name, version="1", effective_at=at, state=state))
    releases.put(Release(event_time=0, kind="MODEL", name="one", version="1", effective_at=0, state="RETIRED"))
    assert [releases.state("one", at) for at in (9, 10, 20)] == ["ACTIVE", "PAUSED", "PAUSED"]
    assert [releases.state("two", at) for at in (14, 15)] == ["ACTIVE", "PAUSED"]


def test_screens_follow_the_venue(tables):
    screens = Screens(VENUE, tables)
    assert screens.nearest("offers") == "screen-7"
    assert screens.nearest("store") == "screen-8"
    assert screens.nearest("shoes") is None
    assert screens.nearest(None) is None
    screens.device(Device(event_time=1, device_id="screen-7", deleted=True))
    assert screens.nearest("offers") == "screen-8"
    screens.device(Device(event_time=1, device_id="a", kind="SCREEN", x_m=30.0, y_m=6.0, view_zones=["offers"]))
    assert screens.nearest("offers") == "a", "ties by id"
    screens.zone(square("offers", "OFFER", 29, 4))
    assert screens.venue.centroids["offers"] == (31.0, 6.0)
    for subject in (TAG, "tag:1:other"):
        screens.present("offers", subject, inside=True)
    screens.present("shoes", TAG, inside=False)
    assert screens.others("a", person(CARD, TAG)) == 1
    assert screens.others("screen-8", person(CARD, TAG)) is None, "nobody counts the store"
    assert screens.others("nowhere", person(CARD)) is None
    assert (screens.count("offers"), screens.count("shoes"), screens.count("garden")) == (2, 0, None)
    screens.site(replace(VENUE.site, time_zone="Atlantic/Canary"))
    screens.site(replace(VENUE.site, site_id="bcn-01", time_zone="Asia/Tokyo"))
    tables.commit()
    again = Screens(VENUE, tables)
    assert again.zone_info.key == "Atlantic/Canary"
    assert (again.nearest("offers"), again.count("offers"), again.count("shoes")) == ("a", 2, 0), "remembered"
