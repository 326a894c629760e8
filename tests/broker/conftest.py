"""One broker and one registry for the whole run, or those that two variables name; a topic prefix a test."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.broker.kafka import Kafka
from tests.broker.registry import Registry
from tests.broker.skipping import or_skipped

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lies here needs a broker."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.broker)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Where services keep their data; kept in /tmp so that no path is too long, and removed."""
    path = Path(tempfile.mkdtemp(prefix="footfall-broker-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(folder: Path) -> Iterator[Kafka]:
    """A broker of our own: tests may kill it and start it again."""
    with or_skipped(Kafka, folder / "kafka") as one:
        yield one


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> str:
    """Bootstrap address of a broker: FOOTFALL_TEST_KAFKA, else one of our own."""
    named = os.environ.get("FOOTFALL_TEST_KAFKA")
    return named or request.getfixturevalue("kafka").bootstrap


@pytest.fixture(scope="session")
def own_registry(folder: Path) -> Iterator[Registry]:
    """A registry of our own."""
    with or_skipped(Registry, folder / "registry") as one:
        yield one


@pytest.fixture(scope="session")
def registry(request: pytest.FixtureRequest) -> str:
    """Address of a registry: FOOTFALL_TEST_REGISTRY, else one of our own."""
    named = os.environ.get("FOOTFALL_TEST_REGISTRY")
    return named or request.getfixturevalue("own_registry").url


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A prefix of topics and subjects that no other test has, in this run or an earlier one."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    return f"{name}-{uuid4().hex[:8]}."
