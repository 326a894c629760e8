"""Strollers before the flow `presence`: positions by construction, so that every stay is known without looking.

A stroller stands in one zone, one reading a second, for 30 or 58 seconds, is silent for more than any gap, and stands in
another. All sensors are honest and nothing is late, so each appearance is one stay in the zone and one in the shop around
it, both ended by silence; whoever stands in the offers for 58 seconds has dwelt there for 45.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schemas import ids
from schemas.keys import key_of, partition_of
from schemas.sensing import Position
from tests.chaos.crowd import SECOND, SITE, THRESHOLD_US, TOKEN, Row

TOPICS = ("sensing.position",)
OUTPUTS = ("presence.transition", "presence.dwell", "presence.visit")
PERIOD_S = 120
SHORT_S, LONG_S = 30, 58
PLACES = {
    "offers": (20.0, 10.0),
    "shoes": (32.5, 8.5),
    "garden": (32.5, 19.0),
    "clothing": (19.5, 19.5),
    "books": (7.5, 11.5),
}
AROUND = "store"
SOURCES = 8
"""Sensors; each is heard on one partition alone, so that no two processes judge its clock."""


@dataclass
class Strollers:
    """Who walks, and what there must be of it.

    Args:
        seed: draws everything.
        people: how many.
        times: how often each appears.
        start: when it begins, µs.
    """

    seed: int
    people: int
    times: int = 5
    start: int = 0
    waves: int = 1

    def __post_init__(self) -> None:
        draw = random.Random(f"strollers:{self.seed}")
        places = list(PLACES)
        self._subjects = [TOKEN(f"tag:stroller-{number:06d}") for number in range(self.people)]
        self._begins = [draw.randrange(PERIOD_S) for _ in range(self.people)]
        self._zones = [draw.randrange(len(places)) for _ in range(self.people)]
        self._lasts = [[draw.choice((SHORT_S, LONG_S)) for _ in range(self.times)] for _ in range(self.people)]

    def _zone(self, person: int, appearance: int) -> str:
        return list(PLACES)[(self._zones[person] + appearance) % len(PLACES)]

    def _heard(self, person: int, second: int) -> int:
        return self.start + second * SECOND + person * (SECOND // self.people)

    def wave(self, _number: int) -> Iterator[Row]:
        """All readings, in order of their times."""
        for second in range(PERIOD_S * (self.times + 1)):
            for person in range(self.people):
                appearance, within = divmod(second - self._begins[person], PERIOD_S)
                if 0 <= appearance < self.times and within <= self._lasts[person][appearance]:
                    at = self._heard(person, second)
                    yield at, TOPICS[0], self._reading(person, self._zone(person, appearance), at, second)

    def rows(self) -> Iterator[Row]:
        """All of them."""
        return self.wave(0)

    def _reading(self, person: int, zone: str, at: int, second: int) -> Position:
        x, y = PLACES[zone]
        head: dict[str, Any] = {"event_time": at, "ingest_time": at + 50_000, "site_id": SITE}
        reading = Position(
            **head, subject_id=self._subjects[person], tech="UWB", seq=second, x_m=x + 0.1 * (second % 2), y_m=y,
            floor=0.0, accuracy_m=0.3,
        )  # fmt: skip
        part = partition_of(key_of(TOPICS[0], reading), SOURCES)
        return Position(
            **{name: getattr(reading, name) for name in reading.__struct_fields__} | {"source_id": f"uwb-{part}"}
        )

    def expected(self) -> Mapping[str, set[str]]:
        """Ids by topic: the stays of each appearance, their beginnings and ends, and who has dwelt."""
        found: dict[str, set[str]] = {topic: set() for topic in OUTPUTS}
        for person, lasts in enumerate(self._lasts):
            for appearance, last in enumerate(lasts):
                entered = self._heard(person, self._begins[person] + appearance * PERIOD_S)
                for zone in (self._zone(person, appearance), AROUND):
                    visit = ids.visit(SITE, self._subjects[person], zone, entered)
                    found["presence.transition"] |= {ids.transition(visit, kind) for kind in ("ENTER", "EXIT")}
                    found["presence.visit"].add(ids.visit_record(visit, 0))
                    if zone == "offers" and last == LONG_S:
                        found["presence.dwell"].add(ids.dwell(visit, THRESHOLD_US))
        return found
