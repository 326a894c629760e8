"""The schema registry: its client, with errors that say whether waiting would help."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import Any, TypeVar

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from operators.connectors.clock import monotonic

LEVEL = "FULL_TRANSITIVE"
_CALL_S, _RETRY_S = 10.0, 0.5
_NO_SUBJECT, _NO_VERSION, _NO_SCHEMA = 40401, 40402, 40403
_UNSET = 40408
_INCOMPATIBLE, _INVALID = 409, 42201
Say = Callable[[str], None]
Answer = TypeVar("Answer")


class RegistryAway(Exception):
    """The registry does not answer: waiting may help. It is not the same as not knowing a schema."""


class RegistryRefused(Exception):
    """The registry answers, and refuses us or what we sent."""


@dataclass(frozen=True, slots=True)
class Version:
    """One registered version of a subject; `schema` is None where it is no Avro."""

    number: int
    id: int
    schema: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class RegistryAccess:
    """A registry and how we are known to it."""

    url: str
    ca_file: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)


class Registry:
    """What we ask of a registry. It never registers unasked: `register` is called by one command only."""

    def __init__(self, access: RegistryAccess, *, call_s: float = _CALL_S, retries: int = 2) -> None:
        self._url = access.url
        config: dict[str, Any] = {"url": access.url, "timeout": call_s, "max.retries": retries, "retries.wait.ms": 100}
        if access.ca_file is not None:
            config["ssl.ca.location"] = str(access.ca_file)
        if access.username is not None:
            config["basic.auth.user.info"] = f"{access.username}:{access.password}"
        self._client = SchemaRegistryClient(config)

    def _call(self, call: Callable[[], Answer], *none: int) -> Answer | None:
        """Make a call; None for the error codes named."""
        try:
            return call()
        except SchemaRegistryError as error:
            if error.error_code in none:
                return None
            text = f"{self._url}: the registry says: {error.error_message} ({error.http_status_code})"
            if error.http_status_code >= 500 or error.http_status_code in {408, 429}:
                raise RegistryAway(text) from error
            if error.http_status_code in {401, 403}:
                raise RegistryRefused(f"{text}; check username and password_file in [registry]") from error
            raise RegistryRefused(text) from error
        except httpx2.TransportError as error:  # the client lets it through
            raise RegistryAway(f"{self._url}: the registry does not answer: {type(error).__name__} {error}") from error
        except (ValueError, KeyError) as error:
            raise RegistryRefused(f"{self._url}: what answers is no registry; check url in [registry]") from error

    def versions(self, subject: str) -> list[Version]:
        """Every version of a subject, oldest first; none where the subject is not there."""
        numbers = self._call(lambda: self._client.get_versions(subject), _NO_SUBJECT) or []
        found = []
        for number in sorted(map(int, numbers)):
            one = self._call(lambda number=number: self._client.get_version(subject, number), _NO_SUBJECT, _NO_VERSION)  # type: ignore[misc]
            if one is not None and one.schema_id is not None:
                found.append(Version(number, one.schema_id, avro(one.schema)))
        return found

    def schema(self, schema_id: int) -> dict[str, Any] | None:
        """The schema of an id; None where the registry has no such id, or it is no Avro record."""
        found = self._call(lambda: self._client.get_schema(schema_id), _NO_SCHEMA, _NO_SUBJECT)
        return None if found is None else avro(found)

    def subjects(self, schema_id: int) -> list[str]:
        """Subjects under which an id is registered."""
        found = self._call(lambda: self._client.get_schema_versions(schema_id), _NO_SCHEMA, _NO_SUBJECT) or []
        return sorted({one.subject for one in found if one.subject})

    def level(self, subject: str) -> str | None:
        """Compatibility set for a subject itself; None where it is the registry's own."""
        found = self._call(lambda: self._client.get_config(subject), _NO_SUBJECT, _UNSET)
        return None if found is None else str(getattr(found.compatibility_level, "value", found.compatibility_level))

    def set_level(self, subject: str) -> None:
        """Make a subject FULL_TRANSITIVE."""
        self._call(lambda: self._client.set_compatibility(subject, LEVEL))

    def agrees(self, subject: str, number: int, text: str) -> bool:
        """Whether the registry finds a schema compatible with a version, at the level that is set."""
        answer = self._call(lambda: self._client.test_compatibility(subject, Schema(text, "AVRO"), number))
        return bool(answer)

    def register(self, subject: str, text: str) -> int:
        """Register a schema; its id. What stands there already keeps its id."""
        answer = self._call(lambda: self._client.register_schema(subject, Schema(text, "AVRO")))
        assert answer is not None
        return answer

    def forget(self) -> None:
        """Ask the registry itself again, not what the client remembers."""
        self._client.clear_caches()  # type: ignore[no-untyped-call]

    def wait(self, limit_s: float, say: Say) -> None:
        """Wait until the registry answers.

        Raises:
            RegistryAway: it did not within the limit.
            RegistryRefused: it refuses us.
        """
        until, said = monotonic() + limit_s, False
        while True:
            try:
                self._call(self._client.get_subjects)
            except RegistryAway as away:
                if monotonic() >= until:
                    raise
                if not said:
                    say(f"{away}; waiting up to {limit_s:.0f} s")
                    said = True
                sleep(max(0.0, min(_RETRY_S, until - monotonic())))
            else:
                return


def avro(schema: Schema) -> dict[str, Any] | None:
    """A registered schema as Avro; None for other kinds, for references to others, and for what is no record."""
    if schema.schema_type not in {None, "AVRO"} or schema.references or schema.schema_str is None:
        return None
    try:
        found = json.loads(schema.schema_str)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("type") == "record" else None
