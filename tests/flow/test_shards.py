"""Activation over several shards says what it says on one, however its parts overtake each other."""

import random
from collections import Counter, deque
from pathlib import Path
from threading import Event as Flag

import msgspec
import pytest

from flows.deployment import Deployment
from flows.replay import FLOWS
from operators.connectors.files import published
from operators.connectors.returns import Returns
from operators.decisions.arbiter import Arbiter
from operators.residence import Residence
from operators.state.memory import Memory
from operators.state.store import Token
from schemas.items import Batch, Event, Item, Member, Moving, Person, Touched
from schemas.parcels import Packed, packed, unpacked
from schemas.people import WebEvent
from schemas.shards import SHARDS, shard_of
from tests.flow.town import Town, deployment, opened

Said = tuple[str, bytes]
_encode = msgspec.json.Encoder().encode


def said(items: list[Item]) -> list[Said]:
    """What is published, whole."""
    return [(event.topic, _encode(event.record)) for event in published(items, FLOWS["activation"].writes)]


class Door:
    """What comes before the fork: from a row to an event about a person."""

    NUMBERS = {"decode": 0, "admit": 1, "occupancy": 3, "stitch": 4}

    def __init__(self, made: Deployment, memory: Memory, tokens: list[Token | None]) -> None:
        self.tables = [opened(memory, n, token) for n, token in zip(self.NUMBERS.values(), tokens, strict=True)]
        self.cores = [getattr(made, name)(tables) for name, tables in zip(self.NUMBERS, self.tables, strict=True)]

    def step(self, items: list[Item]) -> list[Item]:
        for core in self.cores:
            items = core.step(items)
        return items


class Shards:
    """The flow over eight shards: each works on its own batches in order, and they on theirs in any.

    `commit` closes an epoch as the engine does: all that is under way arrives, but for parcels not handed on yet.
    `crash` forgets all but what was committed.
    """

    def __init__(self, made: Deployment, seed: int) -> None:
        self.made, self.draw = made, random.Random(seed)
        self.front = Memory()
        self.memories = [Memory() for _ in SHARDS[:8]]
        self.tokens: list[list[Token | None]] = [[None] * 4, [None], [None] * 8]
        self.moved = 0
        self.begin()

    def begin(self) -> None:
        self.door = Door(self.made, self.front, self.tokens[0])
        self.home_tables = opened(self.front, 8, self.tokens[1][0])
        self.homes = self.made.homes(self.home_tables)
        self.ways = Returns(tuple(range(8)), stop=Flag())
        self.parts = [self.ways.build_part("", name, None) for name in self.ways.list_parts()]
        tokens = enumerate(self.tokens[2])
        self.tables = [opened(self.memories[n], 5, token, SHARDS[n]) for n, token in tokens]
        self.shards = [self.made.residence(self.ways)(tables) for tables in self.tables]
        self.queues: list[deque[Packed]] = [deque() for _ in SHARDS[:8]]

    def step(self, items: list[Item]) -> list[Item]:
        for number, share in enumerate(self.homes.deal(self.door.step(items))):
            if share:
                self.queues[number].append(packed(Batch(share, shard=SHARDS[number])))
        return self.some(self.draw.randrange(8))

    def some(self, most: int) -> list[Item]:
        """Let some of what is on its way arrive; parcels, too."""
        out: list[Item] = []
        for _ in range(most):
            if self.draw.random() < 0.3:
                self.hand_on()
            ready = [n for n, queue in enumerate(self.queues) if queue]
            if ready:
                chosen = self.draw.choice(ready)
                out += self.shards[chosen].step(unpacked(self.queues[chosen].popleft()).items)
        return out

    def hand_on(self) -> None:
        for part in self.parts:
            for shard, parcel in part.next_batch():
                self.moved += 1
                self.queues[SHARDS.index(shard)].append(parcel)

    def commit(self) -> list[Item]:
        for part in self.parts:
            part.snapshot()
        out: list[Item] = []
        while any(self.queues):
            for number, queue in enumerate(self.queues):
                while queue:
                    out += self.shards[number].step(unpacked(queue.popleft()).items)
        self.tokens = [
            [tables.commit() for tables in self.door.tables],
            [self.home_tables.commit()],
            [tables.commit() for tables in self.tables],
        ]
        return out

    def crash(self) -> None:
        self.begin()

    def rest(self) -> list[Item]:
        out: list[Item] = []
        for _ in range(100):  # every move under way needs a round or two
            out += self.some(50)
            self.hand_on()
            out += self.commit()
        return out


def alone(made: Deployment, heard: list[Item]) -> list[Said]:
    door = Door(made, Memory(), [None] * 4)
    person = made.person(opened(Memory(), 5))
    return [one for at in range(0, len(heard), 7) for one in said(person.step(door.step(heard[at : at + 7])))]


def apart(made: Deployment, heard: list[Item], seed: int, *, crashes: float = 0.0) -> tuple[list[Said], Shards]:
    """Over eight shards; with `crashes`, so often a batch ends in one, and what was said since the last epoch stays said."""
    shards = Shards(made, seed)
    out: list[Said] = []
    draw, at, durable = random.Random(seed), 0, 0
    while at < len(heard):
        size = draw.randrange(1, 20)
        out += said(shards.step(heard[at : at + size]))
        at += size
        if draw.random() < 0.1:
            out += said(shards.commit())
            durable = at
        elif draw.random() < crashes:
            shards.crash()
            at = durable
    return out + said(shards.rest()), shards


def difference(one: list[Said], eight: list[Said]) -> str:
    """What one has said more often than the other; empty where they agree."""
    lacks, more = Counter(one) - Counter(eight), Counter(eight) - Counter(one)
    shown = [
        f"{name} {topic} {body.decode()[:1500]}"
        for name, found in (("lacks", lacks), ("more", more))
        for topic, body in sorted(found)[:3]
    ]
    return "\n".join(shown)


def disorder(eight: list[Said]) -> list[str]:
    """Rows of compacted topics that came after a newer one of their key: who reads the last would read an old state."""
    newest: dict[tuple[str, str], int] = {}
    found = []
    for topic, body in eight:
        if topic in {"identity.assignment", "profile.snapshot"}:
            row = msgspec.json.decode(body)
            key = topic, row.get("identifier") or row["person_id"]
            if row["version"] < newest.get(key, 0):
                found.append(str(key))
            newest[key] = max(row["version"], newest.get(key, 0))
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployment(Path(tmp_path_factory.mktemp("town")))


@pytest.mark.parametrize("seed", range(6))
def test_eight_shards_say_what_one_says(made: Deployment, seed: int) -> None:
    heard = Town(seed).heard()
    one = alone(made, heard)
    eight, shards = apart(made, heard, seed)
    assert not difference(one, eight)
    kinds = Counter(topic for topic, _ in one)
    assert not disorder(eight)
    assert kinds["ops.dead-letter"] == 0
    assert kinds["action.command"] > 20
    assert shards.moved > 50


@pytest.mark.parametrize("seed", range(6))
def test_crashes_change_nothing(made: Deployment, seed: int) -> None:
    """Said again is said once: by its id."""
    heard = Town(seed).heard()
    one = alone(made, heard)
    eight, shards = apart(made, heard, seed, crashes=0.2)
    assert len(eight) > len(one)
    assert shards.moved > 50
    assert not difference(sorted(set(one)), sorted(set(eight)))


def test_mutant_events_that_do_not_wait_for_who_is_on_the_way(
    made: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Residence, "_took", _took_what_is_there)
    heard = Town(0).heard()
    assert difference(alone(made, heard), apart(made, heard, 0)[0])


def test_mutant_assignments_that_go_by_home(made: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.homes.Assignment", type(None))
    assert any(disorder(apart(made, Town(seed).heard(), seed)[0]) for seed in range(6))


def test_somebody_whom_other_rules_put_elsewhere_moves_when_she_is_met(made: Deployment) -> None:
    homes, parts = made.homes(opened(Memory(), 8)), [Member(name) for name in ("cookie:1:a", "login:1:b")]
    event = Event(1, 1, "web.event", WebEvent(event_time=1, name="seen"))
    for number, anchor in enumerate(("cookie:1:a", "login:1:b")):
        dealt = homes.deal([Touched(event, "cookie:1:a", Person("login:1:b", anchor, tuple(parts)))])
        moved = [item for share in dealt for item in share if isinstance(item, Moving)]
        assert len(moved) == 2 * number
        assert isinstance(dealt[shard_of(anchor, 8)][-1], Touched)
    assert shard_of("cookie:1:a", 8) != shard_of("login:1:b", 8)


def test_mutant_a_parcel_that_is_not_sent_again(made: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    send = Residence._send

    def once(self: Residence, seq: int, to: int, members: tuple[str, ...]) -> None:
        send(self, seq, to, members)
        self._outbox.put(f"{seq:020d} {to:02d}", None)

    monkeypatch.setattr(Residence, "_send", once)
    assert _differs_after_crashes(made)


def test_mutant_somebody_who_is_given_twice(made: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second parcel is empty, and the one that counts."""
    monkeypatch.setattr(Residence, "_done", lambda _self, _what: 0)
    assert _differs_after_crashes(made)


def test_mutant_a_state_that_is_left_behind(made: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arbiter, "give", lambda _self, _members: [])
    heard = Town(0).heard()
    assert difference(alone(made, heard), apart(made, heard, 0)[0])


def _differs_after_crashes(made: Deployment) -> bool:
    for seed in range(6):
        heard = Town(seed).heard()
        if difference(sorted(set(alone(made, heard))), sorted(set(apart(made, heard, seed, crashes=0.2)[0]))):
            return True
    return False


def _took_what_is_there(self: Residence, moving: Moving) -> bool:
    for key, parcel in list(self._inbox.items()):
        self._persons.take(parcel.rows)
        self._inbox.put(key, None)
    self._moves.put("taken", moving.seq)
    return True
