"""librdkafka's mock cluster: the wire path, offsets, resume and read-back with no Java; nothing is durable, nobody is fenced.

It lives in a process of its own, so that it survives the kills of those who use it. What an administrator asks it does
not answer, so `Admin` does for it: topics are made by the control of that process, which knows their ids and settings.
It keeps 5 MiB or 100,000 message sets of a partition, and shows aborted records to everybody.

with Mock(folder / "mock") as mock:
    ... mock.bootstrap ...
    stand_in(mock.control)  # here, and in each process that asks as an administrator
"""

import ctypes
from collections.abc import Mapping
from concurrent.futures import Future
from functools import cache, partial
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast
from uuid import uuid4

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # type: ignore[attr-defined]

from operators.connectors import access, cluster, tails

_KEY = b"of a socket that its owner alone may open"


def _library() -> ctypes.CDLL:
    """The library of the client, which holds the mock."""
    [found] = (Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs").glob("librdkafka*.so*")
    library = ctypes.CDLL(str(found))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("conf_new", pointer, []),
        ("new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
        ("mock_cluster_new", pointer, [pointer, number]),
        ("mock_cluster_bootstraps", text, [pointer]),
        ("mock_topic_create", number, [pointer, text, number, number]),
        ("mock_clear_request_errors", None, [pointer, ctypes.c_int16]),
        ("mock_push_request_errors_array", None, [pointer, ctypes.c_int16, ctypes.c_size_t, pointer]),
    ):
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class Control:
    """The cluster and what it does not keep: ids and settings of topics."""

    def __init__(self) -> None:
        self._library = _library()
        words = ctypes.create_string_buffer(512)
        settings = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(settings, b"log_level", b"0", words, len(words))
        client = self._library.rd_kafka_new(0, settings, words, len(words))
        self._cluster = self._library.rd_kafka_mock_cluster_new(client, 1)
        self._topics: dict[str, tuple[str, int, dict[str, str]]] = {}

    def bootstrap(self) -> str:
        """Address of the one broker, on the loopback."""
        return str(self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    def make(self, name: str, partitions: int, config: dict[str, str]) -> None:
        """Make a topic."""
        code = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
        if code:
            raise RuntimeError(f"{name}: the mock cluster answers {code}")
        self._topics[name] = (uuid4().hex, partitions, config)

    def fail(self, api: int, codes: list[int]) -> None:
        """Answer the next requests of a kind with these errors, and with no earlier ones, whoever asks."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, api)
        if not codes:
            return
        array = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, api, len(codes), array)

    def topics(self) -> dict[str, tuple[str, int, dict[str, str]]]:
        """Id, partitions and settings of each."""
        return self._topics


@cache
def _control() -> Control:
    """The one of this process."""
    return Control()


class _Manager(BaseManager):
    """Keeps the control in a process of its own."""


_Manager.register("control", _control)


class Mock:
    """One mock broker, from entering to leaving.

    Args:
        control: where its socket is put.
    """

    def __init__(self, control: Path) -> None:
        self.control = control
        self._manager = _Manager(str(control), _KEY, ctx=get_context("spawn"))
        self.bootstrap = ""

    def __enter__(self) -> Self:
        self._manager.start()
        self.bootstrap = self.controls().bootstrap()
        return self

    def controls(self) -> Control:
        """The control, asked from here."""
        return cast(Control, self._manager.control())  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        self._manager.shutdown()


class Admin(AdminClient):
    """A client that answers for a mock cluster what only a controller could: topics, their ids and their settings."""

    def __init__(self, control: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(dict(settings))
        manager = _Manager(str(control), _KEY)
        manager.connect()
        self._control: Control = manager.control()  # type: ignore[attr-defined]

    def create_topics(self, new: list[NewTopic], **_: Any) -> dict[str, Future[None]]:  # type: ignore[override]
        """Make topics."""
        for one in new:
            self._control.make(one.topic, one.num_partitions, dict(one.config or {}))
        return {one.topic: _done(None) for one in new}

    def describe_topics(self, topics: TopicCollection, **_: Any) -> dict[str, Future[Any]]:  # type: ignore[override]
        """Ids and partitions; of rights it says nothing."""
        there = self._control.topics()
        return {name: _described(name, there) for name in topics.topic_names}

    def describe_configs(self, resources: list[ConfigResource], **_: Any) -> dict[Any, Future[Any]]:  # type: ignore[override]
        """Settings that topics were made with; of the broker none."""
        there = self._control.topics()
        found = {}
        for one in resources:
            config = there[one.name][2] if one.name in there else {}
            found[one] = _done({key: SimpleNamespace(value=value) for key, value in config.items()})
        return found


def _described(name: str, there: Mapping[str, tuple[str, int, Any]]) -> Future[Any]:
    if name not in there:
        missing: Future[Any] = Future()
        missing.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
        return missing
    topic_id, partitions, _ = there[name]
    return _done(SimpleNamespace(topic_id=topic_id, partitions=range(partitions), authorized_operations=None))


def _done(answer: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(answer)
    return future


def stand_in(control: Path) -> None:
    """Let the connectors of this process ask `Admin`."""
    for module in (access, cluster, tails):
        module.AdminClient = partial(Admin, control)  # type: ignore[attr-defined, misc, assignment]
