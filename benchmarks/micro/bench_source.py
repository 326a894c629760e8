"""What the Kafka source costs: `python -m benchmarks.micro.bench_source BOOTSTRAP [SECONDS]`.

From the call that produces a message to the micro-batch that holds it, open loop, the generator in a process of
its own; beside it a plain consumer on the same partitions in the same run; then a backlog, flat out. Lanes are
called in turn as the engine does it. The broker must be on this machine: the two clocks are one.
"""

import multiprocessing
import sys
import time
from threading import Event as Flag
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from hdrh.histogram import HdrHistogram

from operators.connectors.reading import SourceRule
from operators.connectors.source import KafkaSource
from schemas.items import Heard

PARTITIONS, SIZE, BACKLOG = 12, 100, 500_000
TOPIC = "sensing.position"


def generate(bootstrap, topic, rate, seconds, late):
    """Produce at a fixed rate whatever becomes of it; each value begins with the time it was due (µs)."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5 if rate > 2_000 else 0, "log_level": 0})
    began, worst = time.time() + 1.5, 0.0  # the reader is there first
    for number in range(int(rate * seconds)):
        due = began + number / rate
        while (now := time.time()) < due:
            time.sleep(min(due - now, 0.001))
        worst = max(worst, now - due)
        producer.produce(topic, b"%-100d" % int(due * 1e6), partition=number % PARTITIONS)
        producer.poll(0)
    producer.flush(30)
    late.value = worst


def source_of(bootstrap, prefix, lanes):
    """A source at the end of its topic, its lanes, and its counters."""
    rule = SourceRule(
        flow="bench", client={"bootstrap.servers": bootstrap}, topics=(TOPIC,), prefix=prefix, lanes=lanes
    )
    source = KafkaSource(rule, stop=Flag(), say=lambda text: print(text, file=sys.stderr))
    return [source.build_part("topics", name, None) for name in source.list_parts()], source.counters


def by_source(bootstrap, prefix, lanes, count):
    """Latencies of `count` messages through the source."""
    found = HdrHistogram(1, 60_000_000, 3)
    parts, _ = source_of(bootstrap, prefix, lanes)
    left, spent = count, time.process_time()
    while left > 0:
        for lane in parts:
            for _, batch in lane.next_batch():
                now = time.time_ns() // 1000
                for item in batch.items:
                    if type(item) is Heard:
                        found.record_value(max(1, now - int(item.value)))
                        left -= 1
    spent = time.process_time() - spent
    for lane in parts:
        lane.close()
    return found, spent


def by_consumer(bootstrap, prefix, _lanes, count):
    """The same by the simplest loop there is."""
    found = HdrHistogram(1, 60_000_000, 3)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "log_level": 0})
    consumer.assign([TopicPartition(prefix + TOPIC, number, 0) for number in range(PARTITIONS)])
    left, spent = count, time.process_time()
    while left > 0:
        message = consumer.poll(0.005)
        if message is not None and message.error() is None:
            found.record_value(max(1, time.time_ns() // 1000 - int(message.value())))
            left -= 1
    spent = time.process_time() - spent
    consumer.close()
    return found, spent


def fresh(bootstrap):
    """A topic of its own."""
    prefix = f"bench-{uuid4().hex[:8]}."
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    for future in admin.create_topics([NewTopic(prefix + TOPIC, PARTITIONS, 1)]).values():
        future.result(10)
    return prefix


def latency(bootstrap, name, read, lanes, rate, seconds):
    """One row: open loop at a rate."""
    prefix, late = fresh(bootstrap), multiprocessing.get_context("spawn").Value("d", 0.0)
    arguments = (bootstrap, prefix + TOPIC, rate, seconds, late)
    generator = multiprocessing.get_context("spawn").Process(target=generate, args=arguments)
    generator.start()
    found, spent = read(bootstrap, prefix, lanes, int(rate * seconds))
    generator.join()
    p50, p99, p999 = (found.get_value_at_percentile(q) / 1000 for q in (50, 99, 99.9))
    print(
        f"{rate:>6}/s  {name:<12} p50 {p50:8.2f}  p99 {p99:8.2f}  p99.9 {p999:8.2f}  max {found.max_value / 1000:8.2f} "
        f"ms  cpu {spent / seconds:5.1%}  generator late at most {late.value * 1000:.1f} ms"
    )


def backlog(bootstrap, prefix, lanes):
    """One row: how fast a backlog is taken in, and in which order."""
    parts, counters = source_of(bootstrap, prefix, lanes)
    began, spent = time.perf_counter(), time.process_time()
    while counters.messages[TOPIC] < BACKLOG:
        for lane in parts:
            lane.next_batch()
    took, spent = time.perf_counter() - began, time.process_time() - spent
    for lane in parts:
        lane.close()
    print(
        f"backlog of {BACKLOG} in {lanes} lanes: {BACKLOG / took:,.0f} a second, {spent / BACKLOG * 1e6:.2f} µs CPU each"
    )


def main():
    bootstrap = sys.argv[1]
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    latency(bootstrap, "(warm up)", by_source, 1, 1_000, seconds)
    for rate in (50, 1_000, 5_000):
        latency(bootstrap, "consumer", by_consumer, 0, rate, seconds)
        latency(bootstrap, "1 lane", by_source, 1, rate, seconds)
        latency(bootstrap, "16 lanes", by_source, 16, rate, seconds)
    prefix = fresh(bootstrap)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "log_level": 0})
    since = int(time.time() * 1000) - 3_600_000
    for number in range(BACKLOG):
        while True:
            try:
                producer.produce(
                    prefix + TOPIC, b"x" * SIZE, partition=number % PARTITIONS, timestamp=since + number // 200
                )
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(60)
    for lanes in (1, 16):
        backlog(bootstrap, prefix, lanes)


if __name__ == "__main__":
    main()
