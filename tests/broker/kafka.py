"""A Kafka broker for tests: one KRaft node on the loopback, random ports, killed and started again at will.

with Kafka(folder) as kafka:
    ... kafka.bootstrap ...
    kafka.kill(); kafka.start()
"""

import base64
import subprocess
import time
import uuid
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.broker.jars import FAST, FLAGS, HERE, SMALL, DidNotStart, Jvm, Service, free_ports, java, kafka_jars

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/data
auto.create.topics.enable=false
log.segment.bytes=16777216
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=2
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
"""


class Kafka(Service):
    """One broker with its own data folder; ports stay the same over a kill and a start.

    Args:
        folder: where properties, data and log go.
        fast: heap and compilers of a benchmark.
        extra: more lines of server.properties; a line that names a property again wins; {port}, {controller} and
            {folder} stand for ours.
    """

    def __init__(self, folder: Path, *, fast: bool = False, extra: str = "") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._fast, self._extra = fast, extra
        self.port, self._controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.format_s = 0.0
        self._probe: AdminClient | None = None
        self.jvm = Jvm(self._java("kafka.Kafka", str(self._properties)), folder / "kafka.log", self._answers)

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    def _java(self, main: str, *arguments: str) -> list[str]:
        log4j = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
        return [*FLAGS, *(FAST if self._fast else SMALL), log4j, "-cp", kafka_jars(), main, *arguments]

    def _format(self) -> None:
        text = (PROPERTIES + self._extra).format(controller=self._controller, port=self.port, folder=self._folder)
        self._properties.write_text(text)
        began = time.monotonic()
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode().replace("-", "_")  # "-t -..." is no value
        tool = self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties))
        done = subprocess.run([java(), *tool], check=False, capture_output=True, text=True)
        if done.returncode:
            raise DidNotStart(f"format: {(done.stdout + done.stderr).strip()[-400:]}")
        self.format_s = time.monotonic() - began

    def _answers(self) -> bool:
        if self._probe is None:
            eager = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100}
            self._probe = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, **eager})
        try:
            self._probe.list_topics(timeout=0.5)
        except KafkaException:
            return False
        self._probe = None
        return True

    def start(self) -> float:
        """Format the first time, start, wait for `list_topics`; seconds from start to the answer."""
        if not self._properties.exists():
            self._format()
        return super().start()

    def restart(self) -> float:
        """Kill and start again on the same data; seconds until it answers."""
        self.kill()
        return self.start()
