"""Feed: the simulated shop onto the topics of a broker, as its sensors, tills and web would say it, by the clock.

`python -m flows.feed --config footfall.toml` is the load of compose.yaml. The shop's own time is moved so that a few
seconds after 17:00 are now. What was known before comes first, at once: customers, consents, what they bought and
looked at. What sensors heard before is left out: a reading of seconds ago is late in a flow that runs already. From
then on each row is said when it was heard.
"""

import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Annotated, Any, get_args

import msgspec
import typer

from flows import ports
from flows.broker import STOPS
from flows.cast import Row
from flows.live import LiveShop
from flows.settings import WrongUse, load
from flows.start import Start
from operators.connectors import subjects
from operators.connectors.access import Admin
from operators.connectors.clock import monotonic, wall
from operators.connectors.registry import Registry
from operators.connectors.senders import Outgoing, Sender, Undelivered
from schemas import ids
from schemas.codec import encode
from schemas.keys import key_of, partition_of
from schemas.pseudonym import BadIdentifier, Tokens, subject_tokens, tokens
from schemas.rows import BadShape, hints, reader
from schemas.topics import REFERENCE, TOPICS
from schemas.types import AnyRecord, Avro, Record

_SOURCES = {"sensing", "web", "pos", "context", "consent"}
FED = tuple(
    topic for topic in TOPICS if topic.split(".", 1)[0] in _SOURCES or topic in {"identity.link", "crm.customer"}
)
"""What a shop and its sources say; the rest is derived, or a file beside the settings.

Contact points are left out: on the wire they are sealed, by whoever holds the key.
"""
_LOOK_S = 0.05
_FIRST_S = 15
"""The first moment, in seconds after 17:00: Ana is about to come to Offers, and is greeted there 50 s later."""


def _instants(topic: str) -> tuple[str, ...]:
    """Fields of a topic that hold an instant."""
    found = []
    for name, hint in hints(TOPICS[topic].record).items():
        forms = [hint, *get_args(hint)]
        marks = [mark for form in forms for mark in (form, *getattr(form, "__metadata__", ()))]
        if any(isinstance(mark, Avro) and mark.logical == "timestamp-micros" for mark in marks):
            found.append(name)
    return tuple(found)


class Moved:
    """Rows of a simulation as records, with every instant moved by as much.

    What is of the moment has an id of the moment: a flow that heard this shop before would take it for a repetition.
    Of what customers did before (`past`) it is one, and keeps its id.

    Args:
        by_us: how far.
    """

    def __init__(self, by_us: int) -> None:
        self._by = by_us
        self._read = {topic: reader(TOPICS[topic].record) for topic in TOPICS}
        self._instants = {topic: _instants(topic) for topic in TOPICS}

    def record(self, topic: str, row: dict[str, Any], *, past: bool = False) -> AnyRecord:
        """One row as a record of its topic.

        Raises:
            BadShape: it is none; a simulation holds such rows on purpose.
        """
        record: AnyRecord = self._read[topic](row)[0]
        moved: dict[str, Any] = {
            name: at + self._by for name in self._instants[topic] if (at := getattr(record, name)) is not None
        }
        if isinstance(record, Record) and (topic in REFERENCE or not past):
            moved["event_id"] = ids.of("fed", record.event_id, self._by)
        return msgspec.structs.replace(record, **moved)


def known(shop: LiveShop) -> list[Row]:
    """What is known at the first moment; of what sensors heard until then nothing."""
    return [(topic, row) for topic, row in shop.due(0) if not topic.startswith("sensing.")]


def _tokened(record: AnyRecord, subject: Tokens) -> AnyRecord:
    """A record with its subject's token, by which a gateway keys it; a spoilt one is said as it is."""
    raw = getattr(record, "subject_id", None)
    try:
        return record if raw is None else msgspec.structs.replace(record, subject_id=subject(raw))
    except BadIdentifier:
        return record


def feed(config: Path, *, seed: int, seconds: float | None, insecure: bool, say: Callable[[str], None]) -> Counter[str]:
    """Say what the shop says until the time is over; answers how much on each topic.

    Raises:
        WrongUse: the settings are refused.
        BrokerAway, BrokerRefused, RegistryAway, RegistryRefused, NotRegistered, Undelivered: the work failed.
    """
    settings, base = load(config), config.parent
    prefix, partitions, limit_s = settings.topics.prefix, settings.topics.partitions, settings.kafka.wait.us / 1e6
    access = ports.broker(settings, base, insecure=insecure)
    Admin(access).wait(limit_s, say)
    registry = Registry(ports.registry(settings, base, insecure=insecure))
    registry.wait(limit_s, say)
    schema_ids = subjects.ids(registry, FED, prefix)
    sender = Sender(access.config(), acked=lambda *_: None, limit_s=limit_s, limits=[1 << 20])
    shop, said = LiveShop(seed, lead_s=_FIRST_S), Counter[str]()
    past = known(shop)  # takes seconds: the clock starts afterwards
    began, moved = monotonic(), Moved(wall() - shop.start)
    pseudonym, version, _ = ports.key_of(settings, base, required=False)
    subject = subject_tokens(tokens(pseudonym, version))
    asked: list[int] = []  # no event: its handler would wait for the wait that it interrupts
    for number in (signal.SIGTERM, signal.SIGINT):  # the first process of a container is not ended by them unheard
        signal.signal(number, lambda told, _frame: asked.append(told))

    def tell(rows: list[Row], *, past: bool) -> None:
        for topic, row in rows:
            if topic not in schema_ids:
                continue
            try:
                record = moved.record(topic, row, past=past)
            except BadShape:
                said["spoilt"] += 1
                continue
            record = _tokened(record, subject)
            key = key_of(topic, record)
            value = encode(schema_ids[topic], record)
            sender.send(Outgoing(prefix + topic, partition_of(key, partitions), key.encode(), value, []))
            said[topic] += 1
        sender.heed()

    tell(past, past=True)
    while not asked and (seconds is None or monotonic() - began < seconds):
        sleep(_LOOK_S)
        tell(shop.due(monotonic() - began), past=False)
    sender.close()
    return said


def _command(
    config: Annotated[Path, typer.Option("--config", help="Settings file that names broker and registry.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the shop.")] = 7,
    seconds: Annotated[float | None, typer.Option(min=1, help="How long; left out: until it is stopped.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plaintext beyond this machine.")] = False,
) -> None:
    """Feed the topics of a broker from the simulated shop."""

    def say(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    try:
        said = feed(config, seed=seed, seconds=seconds, insecure=insecure, say=say)
    except WrongUse as refused:
        say(str(refused))
        raise typer.Exit(2) from refused
    except (*STOPS, subjects.NotRegistered, Undelivered) as stopped:
        say(str(stopped))
        if isinstance(stopped, subjects.NotRegistered):
            start = Start(flow="store", config=config, insecure=insecure)
            say(f"to register them: {start.beside('schemas', 'register')}")
        raise typer.Exit(1) from stopped
    for topic, count in sorted(said.items()):
        say(f"{topic}: {count:,}")


if __name__ == "__main__":
    typer.run(_command)
