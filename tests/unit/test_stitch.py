"""Stitch by example: what is published, the gates, and failures documented for systems in use."""

import msgspec
import pytest

from operators.identities import evidence
from operators.identities.evidence import DAY_US, StitchRule
from schemas import ids
from schemas.derived import Assignment, Transition
from schemas.items import Event, Item, Linked, Member, Person, Tally, Tick, Touched
from schemas.reference import Site
from tests.oracles.identity import (
    HOUR,
    LATER,
    NOW,
    RULE,
    T0,
    Stitched,
    consent,
    contact,
    customer,
    link,
    receipt,
    scan,
    web,
)
from tests.unit.test_stitch_laws import joining_everything

CARD, OTHER_CARD, MAIL, OTHER_MAIL = "loyalty:1:a", "loyalty:1:b", "email:1:a", "email:1:b"
LOGIN, OTHER_LOGIN, PHONE, TAG, COOKIE = "login:1:a", "login:1:b", "phone:1:a", "tag:1:a", "cookie:1:a"
TABLET = "device:1:a"


def transition(subject: str) -> Transition:
    return Transition(
        event_id="t",
        event_time=T0,
        ingest_time=T0,
        visit_id="v",
        subject_id=subject,
        zone_id="z",
        zone_revision=0,
        kind="ENTER",
        at=T0,
        reason="CROSSED",
        tech="UWB",
    )


def _is_row(item: Item) -> bool:
    return isinstance(item, Event) and item.topic == "identity.assignment"


class TestRows:
    def test_a_customer_becomes_one_person_anchored_on_her_card(self) -> None:
        """The worked example: contact points first, then the customer, consent, and the tag by a link."""
        s = Stitched().all(
            contact(1, T0, CARD),
            customer(2, T0, MAIL, CARD, TABLET),
            consent(3, T0 + 1, CARD, True),
            link(4, T0 + 2, TAG, CARD, "QR_PAIR"),
        )
        rows = s.rows("identity.assignment")
        assert [(row.identifier, row.person_id, row.root, row.version) for row in rows] == [
            (one, CARD, CARD, 1) for one in (CARD, MAIL, TABLET, TAG)
        ]
        assert s.changes() == []
        assert [item.kind for item in s.linked()] == ["GREW", "GREW", "GREW"]
        assert [item.member for item in s.touched()] == [CARD, CARD, CARD, TAG]
        assert s.touched()[-1].person == Person(
            CARD,
            CARD,
            (Member(CARD), Member(MAIL, inferred=True), Member(TABLET, inferred=True), Member(TAG)),
        )

    def test_field_values_of_a_row(self) -> None:
        record = msgspec.structs.replace(web(1, T0, COOKIE), ingest_time=T0 + 7)
        first, linked, touched = Stitched().feed(record)
        assert isinstance(first, Event)
        assert first.record == Assignment(
            event_id=ids.assignment(COOKIE, 1),
            event_time=T0,
            ingest_time=T0 + 7,
            site_id="mad-01",
            source_id="activation",
            identifier=COOKIE,
            person_id=COOKIE,
            anchor_id=COOKIE,
            root=COOKIE,
            state="ASSERTED",
            confidence=1.0,
            rule_version=RULE.version,
            version=1,
        )
        assert (first.number, first.clock, first.offset) == (1, NOW + 1, -1)
        assert isinstance(linked, Linked)
        assert isinstance(touched, Touched)
        assert touched.event.record is record

    def test_rows_carry_the_site_of_their_event(self) -> None:
        s = Stitched().all(msgspec.structs.replace(web(1, T0, COOKIE), site_id="vlc-02"))
        assert s.rows("identity.assignment")[0].site_id == "vlc-02"

    def test_the_version_of_a_rule_is_its_content(self) -> None:
        assert RULE.version == StitchRule(site_id="elsewhere", legal_basis="CONSENT").version
        assert RULE.version != StitchRule(dominance=0.8).version
        with pytest.raises(ValueError, match="cookie is a thing"):
            StitchRule(priority={**RULE.priority, "cookie": 0})

    def test_a_late_event_moves_the_anchor_and_says_so(self) -> None:
        s = Stitched().all(web(1, T0 + HOUR, COOKIE), web(2, T0 + 2 * HOUR, COOKIE, MAIL))
        assert s.person(MAIL)[0] == COOKIE  # the member first seen, not the strongest
        s.feed(contact(3, T0, MAIL))
        assert s.person(COOKIE)[0] == MAIL
        assert s.changes() == [("REANCHOR", [COOKIE], [MAIL], [COOKIE, MAIL][::-1])]
        assert s.linked()[-1].kind == "REANCHOR"

    def test_cookie_then_mail_then_login_keeps_one_id(self) -> None:
        s = Stitched().all(web(1, T0, COOKIE), web(2, T0 + 1, COOKIE, MAIL), web(3, T0 + 2, MAIL, LOGIN))
        assert {s.person(one)[0] for one in (COOKIE, MAIL, LOGIN)} == {COOKIE}
        assert s.changes() == []

    def test_a_tag_is_anchor_only_while_alone(self) -> None:
        s = Stitched().all(link(1, T0, TAG, OTHER_CARD, "BADGE_ISSUE", since=LATER), contact(2, T0 + 1, CARD))
        assert s.person(TAG)[0] == TAG
        s.feed(link(3, T0 + 2, TAG, CARD, "QR_PAIR"))
        assert s.person(TAG)[0] == CARD

    def test_a_scan_does_not_count_as_seen(self) -> None:
        s = Stitched().all(scan(1, T0, MAIL), web(2, T0 + 1, MAIL, PHONE), contact(3, T0, PHONE))
        assert s.person(MAIL)[0] == PHONE

    def test_two_profiles_merge_with_a_record(self) -> None:
        s = Stitched().all(contact(1, T0, CARD), web(2, T0 + 1, COOKIE), web(3, T0 + 2, CARD, COOKIE))
        assert s.changes() == [("MERGE", [CARD, COOKIE], [CARD], [COOKIE])]
        (merged,) = [item for item in s.linked() if item.kind == "MERGE"]
        assert [person.anchor for person in merged.persons] == [CARD]
        change = s.rows("identity.change")[0]
        assert change.event_id == ids.change("MERGE", CARD, 1)
        assert (change.source_id, change.rule_version, change.event_time) == ("activation", RULE.version, T0 + 2)

    def test_order_of_what_is_said(self) -> None:
        s = Stitched().all(contact(1, T0, CARD), web(2, T0 + 1, COOKIE))
        said = s.feed(web(3, T0 + 2, CARD, COOKIE))
        assert [item.topic if isinstance(item, Event) else type(item).__name__ for item in said] == [
            "identity.assignment",
            "identity.change",
            "Linked",
            "Touched",
        ]


class TestPassing:
    def test_everything_else_passes_in_its_place(self) -> None:
        s = Stitched()
        site = Event(1, NOW, "venue.site", Site(event_time=T0, lat_deg=0, lon_deg=0, time_zone="UTC"))
        items: list[Item] = [
            Tally("web.event", "read", 1),
            site,
            Event(2, NOW, "web.event", web(1, T0)),
            Event(3, NOW, "web.event", web(2, T0, "track:1:a")),
            Tick(3, NOW + 1),
        ]
        assert s.core.step(list(items)) == items

    def test_a_stay_of_an_unknown_tag_is_about_the_tag_alone(self) -> None:
        s = Stitched()
        (touched,) = s.feed(transition(TAG))
        assert touched == Touched(
            Event(1, NOW + 1, "presence.transition", transition(TAG)), TAG, Person(TAG, TAG, (Member(TAG),))
        )
        assert s.core._forest.node(TAG) is None

    def test_a_stay_of_a_known_tag_is_about_its_person(self) -> None:
        s = Stitched().all(link(1, T0, TAG, CARD, "QR_PAIR"))
        (touched,) = s.feed(transition(TAG))
        assert isinstance(touched, Touched)
        assert (touched.member, touched.person.anchor) == (TAG, CARD)

    def test_a_track_is_nobody(self) -> None:
        (passed,) = Stitched().feed(transition("track:1:x"))
        assert isinstance(passed, Event)

    def test_at_most_eight_identifiers_of_an_event_the_strongest(self) -> None:
        s = Stitched().all(web(1, T0, *(f"cookie:1:{n}" for n in range(9)), CARD))
        assert s.person(CARD)[2] == {CARD, *(f"cookie:1:{n}" for n in range(7))}
        assert s.core._forest.node("cookie:1:8") is None


class TestLinks:
    def test_a_statement_wins_over_what_was_seen(self) -> None:
        seen = [web(n, T0 + n * DAY_US, MAIL, LOGIN) for n in range(20)]
        s = Stitched().all(*seen, link(50, T0, MAIL, OTHER_LOGIN))
        assert s.together(MAIL, OTHER_LOGIN)
        assert not s.together(MAIL, LOGIN)

    def test_a_statement_may_name_the_weaker_one_as_its_target(self) -> None:
        s = Stitched().all(link(1, T0, CARD, MAIL, "IMPORT"))
        assert s.person(MAIL)[1] == CARD

    def test_a_tie_to_a_thing_is_evidence_only(self) -> None:
        s = Stitched().all(link(1, T0, COOKIE, TABLET), web(2, T0, COOKIE, MAIL))
        assert s.together(COOKIE, MAIL)
        assert not s.together(COOKIE, TABLET)

    def test_an_inferred_link_joins_nobody(self) -> None:
        assert not Stitched().all(link(1, T0, TAG, CARD, "INFERRED")).together(TAG, CARD)

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
    def test_a_tag_handed_over_moves(self, order: tuple[int, ...]) -> None:
        records = [
            link(1, T0, TAG, CARD, "BADGE_ISSUE"),
            link(2, T0 + HOUR, TAG, CARD, "BADGE_RETURN"),
            link(3, T0 + 2 * HOUR, TAG, OTHER_CARD, "BADGE_ISSUE"),
        ]
        s = Stitched().all(*(records[n] for n in order))
        assert s.together(TAG, OTHER_CARD)
        assert s.person(CARD)[2] == {CARD}

    def test_a_returned_tag_is_nobodys(self) -> None:
        s = Stitched().all(
            link(1, T0, TAG, CARD, "QR_PAIR"),
            link(2, T0 + 1, TAG, OTHER_CARD, "QR_PAIR"),
            link(3, T0 + 2, TAG, OTHER_CARD, "BADGE_RETURN"),
        )
        assert s.person(TAG)[2] == {TAG}

    def test_a_returned_tag_is_nobodys_even_if_seen_with_somebody(self) -> None:
        s = Stitched().all(
            link(1, T0, TAG, CARD, "BADGE_ISSUE"),
            scan(2, T0 + 1, TAG, CARD),
            link(3, T0 + 2, TAG, CARD, "BADGE_RETURN"),
        )
        assert s.person(TAG)[2] == {TAG}

    def test_a_hand_over_is_a_split_of_the_first_holder(self) -> None:
        s = Stitched().all(contact(1, T0, CARD), contact(2, T0, OTHER_CARD), link(3, T0 + 1, TAG, CARD, "BADGE_ISSUE"))
        s.feed(link(4, T0 + 2, TAG, OTHER_CARD, "BADGE_ISSUE"))
        assert s.changes() == [("SPLIT", [CARD], [CARD, OTHER_CARD], [TAG])]
        (split,) = [item for item in s.linked() if item.kind == "SPLIT"]
        assert {person.anchor: len(person.members) for person in split.persons} == {CARD: 1, OTHER_CARD: 2}

    def test_a_tie_ends_and_begins_by_the_clock(self) -> None:
        s = Stitched().all(
            link(1, T0, TAG, CARD, "QR_PAIR", until=NOW + 100),
            link(2, T0 + 1, COOKIE, MAIL, since=NOW + 200),
        )
        assert s.together(TAG, CARD)
        assert not s.together(COOKIE, MAIL)
        assert s.tick(NOW + 99) == [Tick(2, NOW + 99)]
        *said, tick = s.tick(NOW + 250)
        assert tick == Tick(2, NOW + 250)
        rows = [(one.record.event_time, one.record.identifier) for one in said if _is_row(one)]
        assert rows == [(NOW + 100, TAG), (NOW + 200, COOKIE)]
        assert not s.together(TAG, CARD)
        assert s.together(COOKIE, MAIL)

    def test_the_end_of_a_replay_ends_no_tie(self) -> None:
        s = Stitched().all(link(1, T0, TAG, CARD, "QR_PAIR", until=NOW + 100))
        s.core.step([Tick(1, LATER, end=True)])
        assert s.together(TAG, CARD)

    @pytest.mark.parametrize("method", ["LOGIN", "QR_PAIR", "IMPORT"])
    def test_a_revoked_link_was_never_made(self, method: str) -> None:
        s = Stitched().all(contact(1, T0, CARD), contact(2, T0 + 1, MAIL))
        before = s.person(CARD), s.person(MAIL)
        s.feed(link(3, T0 + 2, MAIL, CARD, method))
        assert s.together(MAIL, CARD)
        s.feed(link(4, T0 + 3, MAIL, CARD, method, revoked=True))
        assert (s.person(CARD), s.person(MAIL)) == before
        assert [kind for kind, *_ in s.changes()] == ["MERGE", "SPLIT"]

    def test_a_revoked_link_forbids_what_was_seen_too_until_stated_again(self) -> None:
        s = Stitched().all(web(1, T0, MAIL, CARD), link(2, T0 + 1, MAIL, CARD, revoked=True))
        s.feed(web(3, T0 + DAY_US, MAIL, CARD))
        assert not s.together(MAIL, CARD)
        s.feed(link(4, T0 + 2 * DAY_US, MAIL, CARD))
        assert s.together(MAIL, CARD)


class TestConsent:
    @pytest.mark.parametrize(
        ("basis", "said", "joined"),
        [
            ("PSEUDONYMOUS", None, True),
            ("PSEUDONYMOUS", True, True),
            ("PSEUDONYMOUS", False, False),
            ("CONSENT", None, False),
            ("CONSENT", True, True),
            ("CONSENT", False, False),
            ("COUNTS_ONLY", None, False),
        ],
    )
    @pytest.mark.parametrize("record", [web, receipt])
    def test_what_was_seen_joins_by_consent_and_basis(
        self, basis: str, said: bool | None, joined: bool, record: type
    ) -> None:
        s = Stitched(StitchRule(legal_basis=basis))
        s.all(consent(1, T0, CARD, said), record(2, T0 + 1, CARD, COOKIE))
        assert s.together(CARD, COOKIE) is joined
        s.feed(consent(3, T0 + 2, CARD, True))
        assert s.together(CARD, COOKIE) is joined  # what may not join was not kept

    @pytest.mark.parametrize(("said", "joined"), [(None, True), (True, True), (False, False)])
    def test_the_shops_own_records_join_unless_denied(self, said: bool | None, joined: bool) -> None:
        s = Stitched(StitchRule(legal_basis="CONSENT"))
        s.all(consent(1, T0, CARD, said), customer(2, T0 + 1, CARD, MAIL), link(3, T0 + 1, TAG, CARD, "QR_PAIR"))
        assert s.together(CARD, MAIL, TAG) is joined

    def test_a_denial_by_any_member_counts(self) -> None:
        s = Stitched().all(customer(1, T0, CARD, MAIL), consent(2, T0 + 1, CARD, True))
        s.all(consent(3, T0 + 2, MAIL, False), web(4, T0 + 3, CARD, COOKIE, MAIL))
        assert all(s.person(one)[2] == {one} for one in (CARD, MAIL, COOKIE))

    @pytest.mark.parametrize("withdrawn", [True, False])
    def test_withdrawal_takes_apart_what_was_joined_under_it(self, withdrawn: bool) -> None:
        apart = Stitched().all(contact(1, T0, CARD), contact(2, T0, MAIL), web(3, T0, COOKIE))
        joined = Stitched().all(contact(1, T0, CARD), contact(2, T0, MAIL), web(3, T0, COOKIE))
        joined.all(consent(4, T0 + 1, CARD, True), web(5, T0 + 2, CARD, MAIL, COOKIE), web(6, T0 + 3, MAIL, COOKIE))
        joined.feed(link(7, T0 + 4, TAG, MAIL, "QR_PAIR"))
        assert joined.together(CARD, MAIL, COOKIE, TAG)
        joined.feed(consent(8, T0 + HOUR, CARD, None if withdrawn else False, withdrawn=withdrawn))
        for one in (CARD, MAIL, COOKIE):
            assert joined.person(one) == apart.person(one)
        assert joined.person(TAG)[2] == {TAG}
        assert joined.changes()[-1][:3] == ("SPLIT", [CARD], [CARD, MAIL, TAG, COOKIE])
        joined.feed(web(9, T0 + 5, MAIL, COOKIE))  # late evidence from before it joins nothing either
        assert not joined.together(MAIL, COOKIE)

    def test_after_a_new_grant_new_evidence_joins_again(self) -> None:
        s = Stitched().all(customer(1, T0, CARD, MAIL), consent(2, T0 + 1, CARD, False), consent(3, T0 + 2, CARD, True))
        assert not s.together(CARD, MAIL)
        s.feed(customer(4, T0 + 3, CARD, MAIL))
        assert s.together(CARD, MAIL)

    def test_an_expired_grant_grants_nothing(self) -> None:
        s = Stitched(StitchRule(legal_basis="CONSENT"))
        s.feed(msgspec.structs.replace(consent(1, T0, CARD, True), valid_until=T0 + 10))
        s.all(web(2, T0 + 10, CARD, COOKIE))
        assert not s.together(CARD, COOKIE)
        s.all(web(3, T0 + 9, CARD, COOKIE))
        assert s.together(CARD, COOKIE)

    def test_the_basis_of_a_site_is_that_of_its_record(self) -> None:
        s = Stitched()
        for n, basis in enumerate(["CONSENT", "PSEUDONYMOUS"]):
            s.feed(Site(event_time=T0, site_id="mad-01", lat_deg=0, lon_deg=0, time_zone="UTC", legal_basis=basis))
            s.feed(web(n, T0 + n, CARD, COOKIE))
            assert s.together(CARD, COOKIE) is (basis == "PSEUDONYMOUS")

    def test_a_deleted_customer_joins_nothing(self) -> None:
        s = Stitched().all(msgspec.structs.replace(customer(1, T0, CARD, MAIL), deleted=True))
        assert not s.together(CARD, MAIL)


class TestKnownFailures:
    """Documented for systems in use: each must not happen here."""

    def test_kiosk_does_not_merge_its_users(self) -> None:
        kiosk = "cookie:1:kiosk"
        s = Stitched()
        for n in range(40):
            s.feed(web(n, T0 + n * HOUR, kiosk, f"login:1:{n}"))
            assert not s.together(f"login:1:{n}", f"login:1:{n - 1}")
        assert s.person(kiosk)[2] == {kiosk}
        s.feed(web(99, T0 + 41 * HOUR, kiosk))
        assert s.touched()[-1].person.members == (Member(kiosk),)  # not the last login's
        s.feed(web(100, T0 + 42 * HOUR, kiosk, "login:1:3"))
        assert s.touched()[-1].member == "login:1:3"  # an event with a login belongs to that login
        node = s.core._forest.node(kiosk)
        assert node is not None
        assert node.seen.hub
        (alarm,) = s.rows("ops.alert")
        assert (alarm.name, alarm.severity, alarm.cause) == ("identity-hub", "WARN", kiosk)

    def test_household_tablet_merges_nobody_after_a_year(self) -> None:
        s = Stitched()
        for day in range(365):
            who = (LOGIN, OTHER_LOGIN)[day % 2]
            s.feed(web(day, T0 + day * DAY_US, who, TABLET, COOKIE))
        assert not s.together(LOGIN, OTHER_LOGIN)
        assert s.person(TABLET)[2] == {TABLET}
        assert s.person(COOKIE)[2] == {COOKIE}

    def test_couple_one_with_a_login_one_with_a_mail(self) -> None:
        s = Stitched()
        for day in range(60):
            s.feed(web(day, T0 + day * DAY_US, (LOGIN, MAIL)[day % 2], TABLET))
        assert not s.together(LOGIN, MAIL)

    def test_two_logins_on_a_cookie_are_two_persons(self) -> None:
        s = Stitched().all(web(1, T0, LOGIN, COOKIE), web(2, T0 + DAY_US, OTHER_LOGIN, COOKIE))
        s.all(link(3, T0, COOKIE, LOGIN), link(4, T0 + DAY_US, COOKIE, OTHER_LOGIN))
        assert [len(s.person(one)[2]) for one in (LOGIN, OTHER_LOGIN, COOKIE)] == [1, 1, 1]

    def test_cookie_after_logout_goes_to_no_one_else(self) -> None:
        s = Stitched().all(link(1, T0, COOKIE, LOGIN, until=T0 + HOUR), web(2, T0 + 2 * HOUR, COOKIE))
        assert s.touched()[-1].person.members == (Member(COOKIE),)

    def test_device_handed_down_moves_when_its_new_life_outweighs_the_old(self) -> None:
        s = Stitched()
        for week in range(10):
            s.feed(web(week, T0 + week * 7 * DAY_US, LOGIN, TABLET))
        assert s.together(LOGIN, TABLET)
        moved = None
        for week in range(10, 60):
            s.feed(web(week, T0 + week * 7 * DAY_US, OTHER_LOGIN, TABLET))
            assert not s.together(LOGIN, OTHER_LOGIN)
            if moved is None and s.together(OTHER_LOGIN, TABLET):
                moved = week
        assert moved is not None
        assert moved > 11

    def test_placeholder_makes_no_giant_person(self) -> None:
        placeholder = "email:1:placeholder"
        s = Stitched(StitchRule(site_id="mad-01", max_below=50))
        for n in range(80):
            s.feed(web(n, T0 + n, placeholder, f"cookie:1:{n}"))
            assert len(s.person(placeholder)[2]) <= 31
        assert s.person(placeholder)[2] == {placeholder}
        assert s.person("cookie:1:3")[2] == {"cookie:1:3"}
        assert [alarm.cause for alarm in s.rows("ops.alert")] == [placeholder]

    def test_placeholder_of_many_logins_is_a_hub(self) -> None:
        s = Stitched().all(*(web(n, T0 + n, f"login:1:{n}", MAIL) for n in range(30)))
        assert s.person(MAIL)[2] == {MAIL}

    def test_one_login_draws_one_card(self) -> None:
        """Pointers alone would let it draw two; the better card stays, the other keeps what hangs below it."""
        s = Stitched().all(
            customer(1, T0, LOGIN, CARD),
            customer(2, T0, OTHER_CARD, PHONE),
            web(3, T0, OTHER_CARD, LOGIN),
            web(4, T0 + DAY_US, OTHER_CARD, LOGIN),
        )
        assert s.person(LOGIN)[2] == {LOGIN, OTHER_CARD, PHONE}
        assert s.person(CARD)[2] == {CARD}
        s.all(web(5, T0 + 2 * DAY_US, CARD, LOGIN), web(6, T0 + 3 * DAY_US, CARD, LOGIN))
        assert s.person(LOGIN)[2] == {LOGIN, CARD}
        assert s.person(OTHER_CARD) == (OTHER_CARD, OTHER_CARD, frozenset({OTHER_CARD, PHONE}))

    def test_two_accounts_of_one_person_join_by_import_only(self) -> None:
        s = Stitched()
        for day in range(30):
            s.feed(customer(day, T0 + day * DAY_US, CARD, OTHER_CARD, MAIL))
        s.feed(link(50, T0, OTHER_CARD, CARD, "LOGIN"))
        assert not s.together(CARD, OTHER_CARD)
        s.feed(link(51, T0 + 1, OTHER_CARD, CARD, "IMPORT"))
        assert s.together(CARD, OTHER_CARD)
        s.feed(link(52, T0 + 2, OTHER_CARD, CARD, "IMPORT", revoked=True))
        assert not s.together(CARD, OTHER_CARD)

    @pytest.mark.parametrize("failure", [
        "test_household_tablet_merges_nobody_after_a_year",
        "test_two_logins_on_a_cookie_are_two_persons",
    ])  # fmt: skip
    def test_they_would_happen_if_sharing_were_ignored(self, failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evidence, "parent", joining_everything)
        with pytest.raises(AssertionError):
            getattr(self, failure)()
