"""A start whose broker and registry go away between two of its questions; the broker is the client's own mock."""

import json
from collections import Counter
from concurrent.futures import Future
from functools import partial
from threading import Event

import pytest
from confluent_kafka import KafkaError, KafkaException

from flows import joining
from flows.causes import journal
from flows.deployment import EXAMPLE, Deployment
from flows.joining import answered, kafka, wanted_topics
from flows.replay import FLOWS
from flows.run import Drained
from flows.settings import load
from flows.start import Start
from operators.connectors import access
from operators.connectors.access import BrokerAway
from operators.connectors.registry import RegistryAway
from operators.connectors.subjects import subject_of
from operators.pulse import Pulse
from schemas import avsc
from schemas.topics import TOPICS
from tests.answering import Answer, Answering
from tests.broker.mock import Admin, Mock

FLOW = "presence"


class Registry(Answering):
    """Holds every schema of ours; what `holds_back` names waits for that event the first time, then for nothing."""

    def __init__(self):
        self.asked, self.holds_back, self.refuses = Counter(), {}, Counter()
        texts = {subject_of(topic): json.dumps(avsc.schema_of(topic)) for topic in TOPICS}
        ids = {subject: number for number, subject in enumerate(texts, 1)}
        registry = self

        class Handler(Answer):
            def do_GET(self):  # noqa: N802 -- a name of the library
                _, *parts = self.path.split("/")
                registry.asked[self.path] += 1
                if self.path in registry.holds_back:
                    registry.holds_back.pop(self.path).wait(10)
                if registry.refuses[self.path] > 0:
                    registry.refuses[self.path] -= 1
                    self.say(503, {"message": "back in a moment"})
                elif len(parts) < 3:
                    self.say(200, [])
                elif len(parts) == 3:
                    self.say(200, [1])
                else:
                    self.say(200, {"version": 1, "id": ids[parts[1]], "schema": texts[parts[1]]})

        super().__init__(Handler)


class AwayOnce(Admin):
    """Does not answer the first time it is asked for topics."""

    def describe_topics(self, topics, **more):
        there = super().describe_topics(topics, **more)
        if self.__dict__.setdefault("answers", False):
            return there
        self.answers = True
        silent = Future()
        silent.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
        return dict.fromkeys(there, silent)


@pytest.fixture
def registry():
    with Registry() as one:
        yield one


@pytest.fixture(scope="module")
def mock(tmp_path_factory):
    with Mock(tmp_path_factory.mktemp("mock") / "control") as one:
        yield one


@pytest.fixture
def join(tmp_path, monkeypatch, mock, registry):
    """Join a flow to them, as a start does; every topic is there."""
    monkeypatch.setattr(access, "AdminClient", partial(AwayOnce, mock.control))
    config = tmp_path / "footfall.toml"
    key = tmp_path / ".key"
    key.write_text("a key for a start")
    key.chmod(0o400)
    config.write_text(
        f'[pseudonym]\nkey_file = ".key"\n[kafka]\nbootstrap = "{mock.bootstrap}"\nwait = "20s"\n'
        f'[registry]\nurl = "{registry.url}"\n[state]\nbackend = "rocksdb"\n[topics]\npartitions = 1\n'
    )
    settings = load(config)
    control = AwayOnce(mock.control, {"bootstrap.servers": mock.bootstrap})._control
    there = control.topics()
    for one in wanted_topics(settings, FLOW):
        if one.name not in there:
            control.make(one.name, one.partitions, dict(one.config))
    deployment = Deployment.load(EXAMPLE, config, complete=False, live=True, say=lambda _text: None)
    return lambda pulse: kafka(Start(flow=FLOW, config=config), settings)(deployment, pulse, journal())


def beating():
    return Pulse(lambda: 0.0, 1.0)


def events(capsys):
    return [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]


def test_a_broker_that_goes_away_after_its_first_answer_is_waited_for(join, capsys):
    assert join(beating()).source is not None
    assert events(capsys) == ["waiting"]


def test_a_registry_that_answers_slowly_or_not_at_all_once_is_waited_for(join, registry, monkeypatch, capsys):
    monkeypatch.setattr(joining, "_CALL_S", 0.2)
    written, read = (f"/subjects/{topic}-value/versions" for topic in (min(FLOWS[FLOW].writes), "sensing.position"))
    registry.refuses[written] = 3  # more than one question is asked for by itself
    over = registry.holds_back[read] = Event()
    join(beating())
    over.set()
    assert events(capsys) == ["waiting"] * 3, "for the broker, for what is written, for what is read"
    assert registry.asked[read] == 2
    assert registry.asked["/subjects/sensing.count-value/versions"] == 1, "what was told is not asked for again"


@pytest.mark.parametrize("away", [BrokerAway, RegistryAway])
def test_the_wait_has_an_end_and_a_drain_is_heard(away):
    now, asked = [100.0], []
    pulse = Pulse(lambda: now[0], 1.0)

    def silent():
        now[0] += 59  # a round of questions is no standstill
        asked.append(pulse.alive)
        raise away("nobody is there")

    with pytest.raises(away):
        answered(silent, 0.0, pulse, journal())
    assert asked == [True]
    pulse.stop.set()
    with pytest.raises(Drained):
        answered(silent, 60.0, pulse, journal())
    assert len(asked) == 1
