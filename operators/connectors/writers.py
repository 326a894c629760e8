"""Writers' schemas by the id before a record: what decode looks into, filled from the registry as ids come by.

That the registry is away is not that it does not know an id: the one is waited for, the other is a dead letter.
Look-ups are rationed. A few new ids at once are waited for, as when writers go over to new schemas; in a storm of
ids nobody waits for long, and what could not be asked about is a dead letter too, to be fed again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import fastavro

from operators.connectors.clock import monotonic
from operators.connectors.registry import Registry, RegistryAway
from operators.connectors.subjects import subject_of
from schemas import avsc
from schemas.codec import LARGEST_ID, BadFraming, unframed
from schemas.topics import TOPICS

REMEMBERED_S = 60.0
"""How long an id that the registry does not know is not asked for again."""
BURST, A_SECOND = 5.0, 1.0
PATIENCE_S, REGAINED = 5.0, 0.05
"""How long good rows are held up for look-ups that are spent, and how much of that comes back in each second."""
BACK_OFF_S = 5.0
"""How long a registry that was away is not asked again."""
MOST_UNKNOWN = 10_000
Found = tuple[str, dict[str, Any]]


class LookupsSpent(Exception):
    """Ids are new and may not be asked about yet; a moment later they may."""


class Schemas(Mapping[int, Found]):
    """Schema id to (topic, parsed writer's schema). A look-up that is not in memory asks the registry.

    An id of a subject that is not ours maps to that subject's name, which is no topic: decode finds it wrong.

    Args:
        registry: one with a short time limit: a look-up holds up its process.
        prefix: stands before our topics and subjects.
        now: seconds that never go back.
    """

    def __init__(self, registry: Registry, prefix: str = "", now: Callable[[], float] = monotonic) -> None:
        self._registry, self._now = registry, now
        self._topics = {subject_of(topic, prefix): topic for topic in TOPICS}
        self._found: dict[int, Found] = {}
        self._unknown: dict[int, float] = {}
        self._passed: dict[int, float] = {}
        self._sightings: Counter[int] = Counter()
        self._tokens, self._filled = BURST, now()
        self._patience, self._rested = PATIENCE_S, self._filled
        self._waiting: float | None = None
        self._away_until = self._filled
        self.answered = True
        """Whether the last look-up was answered; nobody asks for what is known."""
        self.lookups = 0
        self.unknown = 0
        """Look-ups made, and those whose id the registry does not know."""

    @property
    def away(self) -> bool:
        """Whether the registry was away when it was last needed."""
        return self._now() < self._away_until

    def load(self, topics: Iterable[str]) -> None:
        """Take in every registered version of these topics, so that the registry may go away afterwards."""
        wanted = set(topics)
        for subject, topic in self._topics.items():
            if topic in wanted:
                for one in self._registry.versions(subject):
                    if one.schema is not None:
                        self._put(one.id, topic, one.schema)

    def resolve(self, values: Iterable[bytes]) -> None:
        """Look up what a batch of framed values needs, before any of it is decoded.

        An id that comes by often is asked about before one that came once: a new schema gets through a storm.

        Raises:
            RegistryAway: at least one id is neither known nor known to be unknown; take the batch again later.
            LookupsSpent: the same, and the registry is there; take the batch again in a moment. Once patience is
                at an end such ids pass for unknown, until they come by again.
        """
        now = self._now()
        lacking: Counter[int] = Counter()
        for value in values:
            try:
                schema_id, _ = unframed(value)
            except BadFraming:
                continue
            if schema_id not in self._found and not _since(self._unknown, schema_id, now, REMEMBERED_S):
                lacking[schema_id] += 1
        since, self._waiting = self._waiting, None
        if since is None:  # a batch that is taken again was counted the first time
            self._sightings.update(lacking)
        left = [schema_id for schema_id in sorted(lacking, key=self._often) if not self._asked(schema_id, now)]
        self._patience = min(PATIENCE_S, self._patience + (now - self._rested) * REGAINED)
        self._patience -= 0.0 if since is None else now - since
        self._rested = now
        if left and self._patience * A_SECOND >= 1:  # less than that brings no look-up
            self._waiting = now
            raise LookupsSpent(f"{len(left)} schema ids wait: look-ups are spent, one more comes each second")
        for schema_id in left:
            _bounded(self._passed)[schema_id] = now
        if len(self._sightings) > MOST_UNKNOWN:
            self._sightings = Counter(dict(self._sightings.most_common(MOST_UNKNOWN // 2)))

    def _often(self, schema_id: int) -> tuple[int, int]:
        return -self._sightings[schema_id], schema_id

    def _asked(self, schema_id: int, now: float) -> bool:
        """Ask about a new id, if one may; whether one might."""
        if now < self._away_until:
            raise RegistryAway(f"schema id {schema_id} waits: the registry was away {BACK_OFF_S:.0f} s ago or less")
        self._tokens = min(BURST, self._tokens + (now - self._filled) * A_SECOND)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        self._ask(schema_id, now)
        return True

    def __contains__(self, schema_id: object) -> bool:
        return isinstance(schema_id, int) and self._look(schema_id) is not None

    def __getitem__(self, schema_id: int) -> Found:
        found = self._look(schema_id)
        if found is None:
            raise KeyError(schema_id)
        return found

    def __iter__(self) -> Iterator[int]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def _look(self, schema_id: int) -> Found | None:
        found = self._found.get(schema_id)
        if found is not None:
            return found
        if schema_id > LARGEST_ID:  # nothing gives such an id, and a registry asked for it answers as if it were none
            return None
        now = self._now()
        # twice as long as `resolve` remembers: what it has let pass is not asked for again in the midst of a batch
        if not any(_since(held, schema_id, now, 2 * REMEMBERED_S) for held in (self._unknown, self._passed)):
            self._asked(schema_id, now)
        return self._found.get(schema_id)

    def _ask(self, schema_id: int, now: float) -> None:
        self.lookups += 1
        try:
            schema = self._registry.schema(schema_id)
            subjects = [] if schema is None else self._registry.subjects(schema_id)
        except RegistryAway:
            self._away_until, self.answered = now + BACK_OFF_S, False
            raise
        self.answered = True
        self._passed.pop(schema_id, None)
        self._sightings.pop(schema_id, None)
        self._unknown.pop(schema_id, None)
        if schema is not None and (topic := self._topic(subjects, schema)) is not None:
            self._put(schema_id, topic, schema)
        if schema_id not in self._found:
            self.unknown += 1
            _bounded(self._unknown)[schema_id] = now

    def _topic(self, subjects: list[str], schema: dict[str, Any]) -> str | None:
        """Ours among the subjects of an id: that of the record's own name first."""
        topics = [self._topics[subject] for subject in subjects if subject in self._topics]
        name = (schema.get("namespace"), schema.get("name"))
        for topic in topics:
            own = avsc.schema_of(topic)
            if (own["namespace"], own["name"]) == name:
                return topic
        return next(iter([*topics, *subjects]), None)

    def _put(self, schema_id: int, topic: str, schema: dict[str, Any]) -> None:
        try:
            parsed = cast("dict[str, Any]", fastavro.parse_schema(avsc.plain(schema)))
        except Exception:  # whatever a registry holds that is no Avro: its records cannot be read
            return
        self._found[schema_id] = (topic, parsed)


def _since(held: dict[int, float], schema_id: int, now: float, seconds: float) -> bool:
    """Whether an id was put there within so long."""
    at = held.get(schema_id)
    return at is not None and now - at < seconds


def _bounded(held: dict[int, float]) -> dict[int, float]:
    """Room for one more; the oldest goes first."""
    if len(held) >= MOST_UNKNOWN:
        del held[next(iter(held))]
    return held
