"""A flow that says the same things every time, written through a sink that is killed at will; and who reads them."""

import time
from collections import Counter
from dataclasses import replace

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from operators.connectors.outputs import Outputs
from operators.connectors.owner import OWNER
from operators.connectors.sink import GuardedSink
from schemas import ids
from schemas.codec import decode_body, unframed
from schemas.derived import Assignment, Command, Transition
from schemas.items import Batch, Event

TOPICS = ("presence.transition", "action.command", "identity.assignment", "ops.dead-letter")
PARTITIONS = 3
T0 = 1_796_486_400_000_000


def client(broker):
    return {"bootstrap.servers": broker, "log_level": 0}


def topics(broker, prefix, *, partitions=PARTITIONS, only=TOPICS, owners=True, **config):
    """Make the topics of a flow and the one of the owners."""
    admin = AdminClient(client(broker))
    wanted = [NewTopic(prefix + topic, partitions, config=config) for topic in only]
    if owners:
        wanted.append(NewTopic(prefix + OWNER, 1, config={"cleanup.policy": "compact"}))
    for future in admin.create_topics(wanted).values():
        future.result(60)
    until = time.monotonic() + 60
    while time.monotonic() < until:  # made, and yet unheard of for a moment on a busy machine
        known = admin.list_topics(timeout=10).topics
        if all(one.topic in known for one in wanted):
            return admin
    raise AssertionError("the topics were not made")


def outputs(broker, prefix, **changed):
    """What the flow writes."""
    made = Outputs(
        kafka=client(broker),
        flow="store",
        schema_ids={topic: 7 + number for number, topic in enumerate(TOPICS)},
        sealed=lambda data: data,
        prefix=prefix,
        settle_s=0.0,
        start_s=60.0,
        wait_s=120.0,
    )
    return replace(made, **changed)


def transition(number):
    at = T0 + number * 1_000_000
    record = Transition(
        event_id=ids.transition(str(number), "ENTER"), event_time=at, ingest_time=at, site_id="mad-01",
        source_id="presence", visit_id=str(number), subject_id=f"tag:1:{number % 7}", zone_id="offers",
        zone_revision=0, kind="ENTER", at=at, reason="CROSSED", tech="UWB",
    )  # fmt: skip
    return Event(number, at, "presence.transition", record)


def command(number, params=None):
    at = T0 + number * 1_000_000
    anchor = f"loyalty:1:{number % 5}"
    record = Command(
        event_id=ids.action("offers", "1", anchor, str(number), 0), event_time=at, ingest_time=at, site_id="mad-01",
        source_id="activation", campaign_id="offers", campaign_version="1", step="0", decision_id="d",
        anchor_id=anchor, channel="SCREEN", target_id="screen-1", template_id="t", locale="en",
        params=params or {}, purpose="personalisation", while_present=True, expires_at=at + 1, priority=0,
    )  # fmt: skip
    return Event(number, at, "action.command", record)


def assignment(number):
    at = T0 + number * 1_000_000
    name, version = f"loyalty:1:{number % 5}", number // 5 + 1
    record = Assignment(
        event_id=ids.assignment(name, version), event_time=at, ingest_time=at, site_id="mad-01",
        source_id="activation", identifier=name, person_id="p", anchor_id=name, root="r", state="ASSERTED",
        confidence=1.0, rule_version="1", version=version,
    )  # fmt: skip
    return Event(number, at, "identity.assignment", record)


def batch(number):
    """What the flow derives of its input `number`: the same every time."""
    items = [transition(number)]
    if number % 2 == 0:
        items.append(command(number))
    if number % 3 == 0:
        items.append(assignment(number))
    return Batch(items)


def expected(count):
    """What must stand on the topics, once each."""
    return Counter(item.record.event_id for number in range(count) for item in batch(number).items)


def read(broker, prefix, only=TOPICS):
    """Every committed record of the topics, by topic: read on its own, to the end of each partition."""
    consumer = Consumer(
        client(broker)
        | {"group.id": "oracle", "isolation.level": "read_committed", "enable.partition.eof": True,
           "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )  # fmt: skip
    parts = {
        (name, part)
        for topic in only
        for name in [prefix + topic]
        for part in consumer.list_topics(name, timeout=10).topics[name].partitions
    }
    consumer.assign([TopicPartition(name, part, 0) for name, part in sorted(parts)])
    found = {topic: [] for topic in only}
    while parts:
        for message in consumer.consume(1000, 1.0):
            if message.error() is None:
                topic = message.topic()[len(prefix) :]
                found[topic].append((message, decode_body(topic, unframed(message.value())[1])))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                parts.discard((message.topic(), message.partition()))
    consumer.close()
    return found


def event_ids(broker, prefix):
    """How often each id stands there."""
    return Counter(record.event_id for rows in read(broker, prefix).values() for _, record in rows)


class Life:
    """One process with a sink, from its snapshot to its death."""

    def __init__(self, made, resume=None):
        self.sink = GuardedSink(made)
        self.lane = self.sink.build_part("store.records", "out-00", resume)

    def say(self, *numbers):
        for number in numbers:
            self.lane.write_batch([batch(number)])

    def die(self):
        self.lane.abandon()
