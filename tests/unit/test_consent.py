"""Consents of a person: what her identifiers' records come to."""

import pytest

from operators.people import consent
from operators.people.consent import compose, next_expiry
from operators.people.ledger import Agreed
from schemas.person import DENIED, EXPIRED, GRANTED, UNSET, WITHDRAWN

T0 = 1_000


def agreed(at=T0, *, until=None, withdrawn=False, name=None, **purposes):
    said = []
    for code, value in purposes.items():
        for granted, channels in value if isinstance(value, list) else [(value, [])]:
            said.append((code, granted, channels))
    return Agreed(at, name or f"id-{at}", f"epoch-{at}", said, "ES", "es", until, withdrawn)


def test_nobody_who_said_nothing_has_agreed():
    assert compose([], T0).of("linking") == UNSET
    assert compose([], T0).epoch is None
    assert compose([], T0).may_contact("PUSH") == UNSET


def test_one_grant_is_enough_where_nobody_denies():
    both = compose([agreed(linking=True), agreed(T0 + 1, profiling=True)], T0)
    assert (both.of("linking"), both.of("profiling"), both.of("personalisation")) == (GRANTED, GRANTED, UNSET)
    assert both.epoch == f"epoch-{T0 + 1}"


def denied_by_any():
    both = compose([agreed(linking=False), agreed(T0 + 1, linking=True)], T0 + 1)
    assert both.of("linking") == DENIED


def test_one_denial_is_enough():
    denied_by_any()


def test_the_check_above_notices_when_a_grant_wins_over_a_denial(monkeypatch):
    monkeypatch.setattr(consent, "STRICTEST", (GRANTED, DENIED, WITHDRAWN, EXPIRED, UNSET))
    with pytest.raises(AssertionError):
        denied_by_any()


def test_a_withdrawal_withdraws_every_purpose_and_every_channel():
    both = compose([agreed(linking=True, contact=[(True, ["push"])]), agreed(T0 + 1, withdrawn=True)], T0 + 1)
    assert {both.of(purpose) for purpose in consent.PURPOSES} == {WITHDRAWN}
    assert (both.may_contact("PUSH"), both.may_contact("EMAIL")) == (WITHDRAWN, WITHDRAWN)


def test_a_grant_ends_at_its_end_and_says_when():
    record = agreed(until=T0 + 10, linking=True, profiling=False)
    assert [compose([record], at).of("linking") for at in (T0 + 9, T0 + 10)] == [GRANTED, EXPIRED]
    assert compose([record], T0 + 10).of("profiling") == DENIED
    assert (next_expiry([record], T0), next_expiry([record], T0 + 10)) == (T0 + 10, None)
    assert compose([record, agreed(T0 + 1, linking=True)], T0 + 10).of("linking") == GRANTED


def test_contact_is_by_channel_and_no_channel_is_every_channel():
    some = compose([agreed(contact=[(True, ["push", "screen"]), (False, ["sms"])])], T0)
    assert [some.may_contact(name) for name in ("PUSH", "Screen", "SMS", "EMAIL")] == [GRANTED, GRANTED, DENIED, UNSET]
    every = compose([agreed(contact=True)], T0)
    assert every.may_contact("EMAIL") == GRANTED
    less = compose([agreed(contact=True), agreed(T0 + 1, contact=[(False, ["email"])])], T0)
    assert [less.may_contact(name) for name in ("EMAIL", "PUSH")] == [DENIED, GRANTED]
