"""Laws of identity: persons are a function of the evidence, against an oracle that keeps all of it."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from operators.identities import evidence, forest
from operators.identities.evidence import DAY_US, Edges, Pointer, Seen, StitchRule, namespace
from operators.state.rocks import RocksStore
from operators.state.store import Token
from schemas.items import Event, Item, Linked
from schemas.types import AnyRecord
from tests.oracles.identity import (
    HOUR,
    LATER,
    NOW,
    RULE,
    T0,
    Oracle,
    Stitched,
    consent,
    contact,
    customer,
    link,
    receipt,
    scan,
    web,
)

POOL = [
    *("login:1:a", "login:1:b", "loyalty:1:a", "loyalty:1:b", "loyalty:1:c", "email:1:a", "email:1:b", "email:1:c"),
    *("email:1:d", "phone:1:a", "phone:1:b", "phone:1:c", "payment_token:1:a", "device:1:a", "device:1:b"),
    *("tag:1:a", "tag:1:b", "cookie:1:a", "cookie:1:b", "cookie:1:c"),
]
PERSONS = [one for one in POOL if namespace(one) in RULE.persons]
METHODS = ["LOGIN", "QR_PAIR", "BADGE_ISSUE", "BADGE_RETURN", "IMPORT", "INFERRED", "UNKNOWN"]
TIGHT = StitchRule(
    site_id="mad-01",
    max_neighbours=4,
    max_candidates=2,
    max_below=3,
    max_buckets=2,
    limits={**RULE.limits, "email": 1, "device": 1, "cookie": 2},
)
RULES = [RULE, TIGHT]


def history(seed: int, length: int, *, denials: bool, imports: bool = True) -> list[AnyRecord]:
    """A random life of a small neighbourhood; few days and identifiers, so that everything meets."""
    rng = random.Random(seed)
    pool = rng.sample(POOL, rng.randint(3, len(POOL)))
    persons = [one for one in pool if one in PERSONS] or PERSONS[:1]
    methods = [one for one in METHODS if imports or one != "IMPORT"]
    records: list[AnyRecord] = []
    for n in range(length):
        at = T0 + rng.choice([0, 1, 2, 30, 200, 400]) * DAY_US + rng.randrange(24) * HOUR
        named = rng.sample(pool, min(len(pool), rng.choice([1, 2, 2, 2, 3, 4])))
        what = rng.random()
        if what < 0.35:
            records.append(web(n, at, *named))
        elif what < 0.45:
            records.append(receipt(n, at, *named))
        elif what < 0.55:
            records.append(customer(n, at, *named))
        elif what < 0.6:
            records.append(scan(n, at, *named))
        elif what < 0.64:
            records.append(contact(n, at, named[0]))
        elif what < 0.9 or not denials:
            to = rng.choice(persons) if rng.random() < 0.85 else named[-1]
            until = rng.choice([None, None, None, NOW - 1, NOW + length // 2, LATER - 1])
            since = rng.choice([None, None, None, NOW + length // 3])
            revoked = rng.random() < 0.2
            records.append(link(n, at, named[0], to, rng.choice(methods), since=since, until=until, revoked=revoked))
        else:
            records.append(consent(n, at, named[0], rng.choice([True, False, None]), withdrawn=rng.random() < 0.2))
    return records


def played(records: list[AnyRecord], rule: StitchRule = RULE) -> Stitched:
    one = Stitched(rule).all(*records)
    one.tick(LATER)
    return one


def partition(stitched: Stitched) -> dict[str, tuple[str, str, frozenset[str]]]:
    return {one: stitched.person(one) for one in POOL}


def check(stitched: Stitched, oracle: Oracle) -> None:
    for anchor, root, members in oracle.persons():
        for one in members:
            assert stitched.person(one) == (anchor, root, members), one


seeds = some.integers(min_value=0, max_value=1 << 32)


@settings(derandomize=True, max_examples=120, deadline=None)
@given(seeds, some.sampled_from([(RULE, False), (RULE, True), (TIGHT, False)]))
def test_persons_equal_the_oracle_at_every_step(seed: int, how: tuple[StitchRule, bool]) -> None:
    """Not with denials under the tight rule: a crowd's flag never goes down, and the oracle has none."""
    rule, denials = how
    stitched, oracle = Stitched(rule), Oracle(rule)
    records = history(seed, 40, denials=denials)
    for record in records:
        stitched.feed(record)
        oracle.feed(record, NOW + stitched.number)
        check(stitched, oracle)
    stitched.tick(LATER)
    oracle.clock = LATER
    check(stitched, oracle)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(seeds)
def test_under_consent_too(seed: int) -> None:
    rule = StitchRule(site_id="mad-01", legal_basis="CONSENT")
    stitched, oracle = Stitched(rule), Oracle(rule)
    for record in history(seed, 40, denials=True):
        stitched.feed(record)
        oracle.feed(record, NOW + stitched.number)
    check(stitched, oracle)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(seeds, some.sampled_from(RULES))
def test_law_1_arrival_order_does_not_matter(seed: int, rule: StitchRule) -> None:
    records = history(seed, 40, denials=False)
    shuffled = list(records)
    random.Random(seed + 1).shuffle(shuffled)
    assert partition(played(records, rule)) == partition(played(shuffled, rule))


@settings(derandomize=True, max_examples=100, deadline=None)
@given(seeds, some.sampled_from(RULES))
def test_law_2_duplicates_do_not_matter(seed: int, rule: StitchRule) -> None:
    records = history(seed, 40, denials=False)
    rng = random.Random(seed + 1)
    doubled = list(records)
    for record in rng.sample(records, 15):
        doubled.insert(rng.randint(doubled.index(record), len(doubled)), record)
    assert partition(played(records, rule)) == partition(played(doubled, rule))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(seeds)
def test_a_duplicate_right_behind_says_nothing(seed: int) -> None:
    stitched = Stitched()
    for record in history(seed, 40, denials=True):
        stitched.feed(record, NOW)
        said = stitched.feed(record, NOW)
        assert len(said) == 1


@settings(derandomize=True, max_examples=80, deadline=None)
@given(seeds, some.integers(min_value=0, max_value=39), some.integers(min_value=0, max_value=10))
def test_law_3_stop_and_resume_equal_the_whole(seed: int, cut: int, lost: int) -> None:
    records = history(seed, 40, denials=True)
    whole = played(records)
    first = Stitched().all(*records[:cut])
    token = first.tables.commit()
    kept = list(first.out)
    first.all(*records[cut : cut + lost])  # an epoch that never closes
    first.tables.commit()
    again = Stitched(memory=first.memory, token=token)
    again.number, again.out = cut, kept
    again.all(*records[cut:])
    again.tick(LATER)
    assert again.out == whole.out


def test_law_3_over_rocksdb(tmp_path: Path) -> None:
    records = history(3, 120, denials=True)
    said: list[Item] = []
    token: Token | None = None
    for start in range(0, len(records), 10):
        store = RocksStore(tmp_path / "state", 4, of_execution=b"%d" % start, max_dirty=4, sync=False)
        store.claim(token)
        store.open("0")
        stitched = Stitched(store=store)
        stitched.number = start
        said += stitched.all(*records[start : start + 10]).out
        token = stitched.tables.commit()
        stitched.all(*records[start + 10 : start + 13])  # an epoch that never closes
        for table in stitched.tables._tables:
            table.flush()
        store.close()
    assert said == Stitched().all(*records).out


@settings(derandomize=True, max_examples=100, deadline=None)
@given(seeds, some.booleans())
def test_law_7_no_person_has_two_ids_of_a_unique_namespace(seed: int, denials: bool) -> None:
    stitched = Stitched()
    for record in history(seed, 50, denials=denials, imports=False):
        for item in stitched.feed(record):
            for person in item.persons if isinstance(item, Linked) else ():
                held = [namespace(member.identifier) for member in person.members]
                assert all(held.count(name) <= limit for name, limit in RULE.limits.items())


@settings(derandomize=True, max_examples=80, deadline=None)
@given(seeds, some.booleans())
def test_law_8_a_revoked_link_leaves_things_as_they_were(seed: int, denials: bool) -> None:
    records = history(seed, 30, denials=denials)
    rng = random.Random(seed + 1)
    stitched = played(records)
    before = partition(stitched)
    weak, strong = rng.choice(POOL), rng.choice(PERSONS)
    node = stitched.core._forest.node(weak)
    if namespace(weak) == namespace(strong) or RULE.rank(weak) < RULE.rank(strong) or node is None:
        return
    if stitched.core._forest.node(strong) is None or any(tie.to == strong for tie in node.ties):
        return
    if strong in node.seen.edges:
        return  # the revoked link is a veto, so what they were seen in together goes with it
    stitched.feed(link(1000, LATER, weak, strong, "QR_PAIR"))
    stitched.feed(link(1001, LATER + 1, weak, strong, "QR_PAIR", revoked=True))
    assert partition(stitched) == before


@settings(derandomize=True, max_examples=80, deadline=None)
@given(seeds)
def test_rows_and_links_tell_the_same_story(seed: int) -> None:
    """Who follows `identity.assignment` alone, or `Linked` alone, ends with the persons that the core has."""
    stitched = played(history(seed, 60, denials=True))
    told: dict[str, tuple[str, str]] = {}
    versions: dict[str, int] = {}
    heard: dict[str, object] = {}
    ids: list[str] = []
    for item in stitched.out:
        if isinstance(item, Event) and item.topic == "identity.assignment":
            row = item.record
            assert row.version == versions.get(row.identifier, 0) + 1
            assert told.get(row.identifier) != (row.person_id, row.root)
            told[row.identifier], versions[row.identifier] = (row.person_id, row.root), row.version
            ids.append(row.event_id)
        elif isinstance(item, Event) and item.topic == "identity.change":
            ids.append(item.record.event_id)
        elif isinstance(item, Linked):
            for person in item.persons:
                heard.update(dict.fromkeys((member.identifier for member in person.members), person))
    assert len(ids) == len(set(ids))
    for one, said in told.items():
        person = stitched.core.person_of(one)
        assert (person.anchor, person.root) == said
        assert heard[one] == person


MARKS = some.lists(some.tuples(some.sampled_from(POOL[:12]), some.integers(0, 30)), max_size=60)


def seen(sights: list[tuple[str, int]], rule: StitchRule) -> Seen:
    state = Seen()
    for other, mark in sights:
        state.note(other, mark, rule)
    return state


def canonical(state: Seen) -> tuple[bool, Edges]:
    return state.hub, dict(sorted(state.edges.items()))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(MARKS, MARKS, MARKS, some.sampled_from(RULES))
def test_law_9_join_is_a_semilattice(
    one: list[tuple[str, int]], two: list[tuple[str, int]], three: list[tuple[str, int]], rule: StitchRule
) -> None:
    a, b, c = seen(one, rule), seen(two, rule), seen(three, rule)
    assert canonical(a.join(b, rule)) == canonical(b.join(a, rule))
    assert canonical(a.join(b, rule).join(c, rule)) == canonical(a.join(b.join(c, rule), rule))
    assert canonical(a.join(a, rule)) == canonical(a)
    assert canonical(a.join(b, rule)) == canonical(seen(one + two, rule))


def joining_everything(edges: Edges, rule: StitchRule) -> Pointer | None:
    """Union-find's mistake: whoever was seen with somebody is that one."""
    found = [other for other, marks in edges.items() if marks]
    if not found:
        return None
    best = min(found, key=rule.rank)
    return Pointer(best, False, float(len(edges[best])), edges[best][-1])


def test_the_oracle_catches_a_join_that_ignores_sharing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "parent", joining_everything)
    with pytest.raises(AssertionError):
        test_persons_equal_the_oracle_at_every_step()


def test_the_oracle_catches_limits_that_are_not_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    loose = StitchRule(site_id="mad-01", limits=dict.fromkeys(RULE.limits, 1_000))
    monkeypatch.setattr(Stitched.__init__, "__defaults__", (loose, None, None, None))
    with pytest.raises(AssertionError):
        test_law_7_no_person_has_two_ids_of_a_unique_namespace()


def test_the_oracle_catches_a_tree_that_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    right = forest.Forest._repoint

    def forgetful(self: forest.Forest, identifier: str) -> None:
        right(self, identifier)
        self._moved.pop(next(iter(self._moved), ""), None)

    monkeypatch.setattr(forest.Forest, "_repoint", forgetful)
    with pytest.raises(AssertionError):
        test_rows_and_links_tell_the_same_story()
