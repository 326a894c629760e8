"""Writers' schemas by the id before a record: what decode looks into, filled from the registry as ids come by.

That the registry is away is not that it does not know an id: the one is waited for, the other is a dead letter.
"""

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
BACK_OFF_S = 5.0
"""How long a registry that was away is not asked again."""
MOST_UNKNOWN = 10_000
Found = tuple[str, dict[str, Any]]


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
        self._tokens, self._filled = BURST, now()
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

        Raises:
            RegistryAway: at least one id is neither known nor known to be unknown; take the batch again later.
        """
        for value in values:
            try:
                schema_id, _ = unframed(value)
            except BadFraming:
                continue
            self._look(schema_id, REMEMBERED_S)

    def __contains__(self, schema_id: object) -> bool:
        # twice as long as `resolve` remembers: what it has let pass is not asked for again in the midst of a batch
        return isinstance(schema_id, int) and self._look(schema_id, 2 * REMEMBERED_S) is not None

    def __getitem__(self, schema_id: int) -> Found:
        found = self._look(schema_id, 2 * REMEMBERED_S)
        if found is None:
            raise KeyError(schema_id)
        return found

    def __iter__(self) -> Iterator[int]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def _look(self, schema_id: int, remembered_s: float) -> Found | None:
        found = self._found.get(schema_id)
        if found is not None:
            return found
        if schema_id > LARGEST_ID:  # nothing gives such an id, and a registry asked for it answers as if it were none
            return None
        now = self._now()
        asked = self._unknown.get(schema_id)
        if asked is not None and now - asked < remembered_s:
            return None
        if now < self._away_until:
            raise RegistryAway(f"schema id {schema_id} waits: the registry was away {BACK_OFF_S:.0f} s ago or less")
        self._tokens = min(BURST, self._tokens + (now - self._filled) * A_SECOND)
        self._filled = now
        if self._tokens < 1:
            raise RegistryAway(f"schema id {schema_id} waits: look-ups are spent, one more comes each second")
        self._tokens -= 1
        return self._ask(schema_id, now)

    def _ask(self, schema_id: int, now: float) -> Found | None:
        self.lookups += 1
        try:
            schema = self._registry.schema(schema_id)
            subjects = [] if schema is None else self._registry.subjects(schema_id)
        except RegistryAway:
            self._away_until, self.answered = now + BACK_OFF_S, False
            raise
        self.answered = True
        if schema is not None and (topic := self._topic(subjects, schema)) is not None:
            self._put(schema_id, topic, schema)
        if schema_id not in self._found:
            self.unknown += 1
            if len(self._unknown) >= MOST_UNKNOWN:
                del self._unknown[next(iter(self._unknown))]
            self._unknown.pop(schema_id, None)
            self._unknown[schema_id] = now
            return None
        self._unknown.pop(schema_id, None)
        return self._found[schema_id]

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
