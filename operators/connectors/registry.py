"""The schema registry: what we ask it for, with errors that say whether waiting would help.

It speaks Confluent's API (https://docs.confluent.io/platform/current/schema-registry/develop/api.html).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import sleep
from typing import Any, TypeVar
from urllib.parse import quote

from operators.connectors.asking import Asking, NoJson, Unanswered, Untrusted, in_clear
from operators.connectors.clock import monotonic, wall

LEVEL = "FULL_TRANSITIVE"
_CALL_S, _RETRY_S, _AGAIN_S = 10.0, 0.5, 0.1
_NO_SUBJECT, _NO_VERSION, _NO_SCHEMA = 40401, 40402, 40403
_UNSET = 40408
_CHECK_USER = "check username and password_file in [registry]"
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

    @property
    def tells_secret(self) -> bool:
        """Whether the password would go over a network in clear."""
        return self.username is not None and in_clear(self.url)


class Registry:
    """What we ask of a registry. It never registers unasked: `register` is called by one command only."""

    def __init__(self, access: RegistryAccess, *, call_s: float = _CALL_S, retries: int = 2) -> None:
        self._url, self._retries = access.url, retries
        user = None if access.username is None else (access.username, access.password or "")
        try:
            self._asking = Asking(access.url, call_s=call_s, ca_file=access.ca_file, user=user)
        except (ValueError, OSError) as error:
            raise RegistryRefused(f"{self._url}: {error}; check url and ca_file in [registry]") from error

    def _call(
        self, method: str, path: str, read: Callable[[Any], Answer], *none: int, body: Any = None
    ) -> Answer | None:
        """Make a call, again where waiting may help, and read what it answers; None for the error codes named."""
        for left in range(self._retries, -1, -1):
            try:
                said = self._called(method, path, body, none)
                return None if said is None else read(said)
            except RegistryAway:
                if not left:
                    raise
                sleep(_AGAIN_S)
            except (LookupError, TypeError, ValueError) as error:
                raise self._other("an answer of another form", 200) from error
        return None

    def _called(self, method: str, path: str, body: Any, none: tuple[int, ...]) -> Any:
        try:
            status, said = self._asking(method, path, body)
        except Unanswered as error:
            raise RegistryAway(f"{self._url}: the registry does not answer: {error}") from error
        except Untrusted as error:
            raise RegistryRefused(
                f"{self._url}: its certificate is not trusted: {error}; check url and ca_file in [registry]"
            ) from error
        except NoJson as error:
            raise self._other(str(error), error.status) from error
        if 200 <= status < 300:
            return said
        if not isinstance(said, dict) or "message" not in said:
            raise self._other(f"status {status}", status)
        if said.get("error_code") in none:
            return None
        text = f"{self._url}: the registry says: {said['message']} ({status})"
        if _may_pass(status):
            raise RegistryAway(text)
        if status in {401, 403}:
            raise RegistryRefused(f"{text}; {_CHECK_USER}")
        raise RegistryRefused(text)

    def _other(self, why: str, status: int) -> Exception:
        """Something else answers: a proxy before a registry that is away, or another server altogether."""
        if _may_pass(status):
            return RegistryAway(f"{self._url}: the registry does not answer: {why}")
        if status in {401, 403}:
            return RegistryRefused(f"{self._url}: refused ({why}); {_CHECK_USER}")
        return RegistryRefused(f"{self._url}: what answers is no registry ({why}); check url in [registry]")

    def versions(self, subject: str) -> list[Version]:
        """Every version of a subject, oldest first; none where the subject is not there."""
        at = _versions(subject)

        def one(said: Any) -> Version:
            return Version(int(said["version"]), int(said["id"]), avro(said))

        numbers = self._call("GET", at, lambda said: sorted(map(int, said)), _NO_SUBJECT) or []
        found = [self._call("GET", f"{at}/{number}", one, _NO_SUBJECT, _NO_VERSION) for number in numbers]
        return [version for version in found if version is not None]

    def schema(self, schema_id: int) -> dict[str, Any] | None:
        """The schema of an id; None where the registry has no such id, or it is no Avro record."""
        return self._call("GET", f"schemas/ids/{schema_id}", avro, _NO_SCHEMA, _NO_SUBJECT)

    def subjects(self, schema_id: int) -> list[str]:
        """Subjects under which an id is registered."""

        def names(said: Any) -> list[str]:
            return sorted({str(one["subject"]) for one in said})

        return self._call("GET", f"schemas/ids/{schema_id}/versions", names, _NO_SCHEMA, _NO_SUBJECT) or []

    def level(self, subject: str) -> str | None:
        """Compatibility set for a subject itself; None where it is the registry's own."""
        return self._call("GET", _config(subject), lambda said: str(said["compatibilityLevel"]), _NO_SUBJECT, _UNSET)

    def set_level(self, subject: str, level: str | None = LEVEL) -> None:
        """Set the compatibility of a subject; None gives it that of the registry itself."""
        if level is None:
            self._call("DELETE", _config(subject), bool, _NO_SUBJECT, _UNSET)
        else:
            self._call("PUT", _config(subject), bool, body={"compatibility": level})

    def agrees(self, subject: str, number: int, text: str) -> bool:
        """Whether the registry finds a schema compatible with a version, at the level that is set."""
        at = f"compatibility/{_versions(subject)}/{number}"
        return bool(self._call("POST", at, lambda said: bool(said["is_compatible"]), body=_avro(text)))

    def register(self, subject: str, text: str) -> int:
        """Register a schema; its id. What stands there already keeps its id."""
        answer = self._call("POST", _versions(subject), lambda said: int(said["id"]), body=_avro(text))
        assert answer is not None
        return answer

    def apart(self) -> float | None:
        """Seconds by which our clock is ahead of the registry's, to half a second or so; None where it says no time.

        Raises:
            RegistryAway: it does not answer.
            RegistryRefused: it refuses us.
        """
        before = wall()
        self._call("GET", "subjects", list)
        said = self._asking.date
        if said is None:
            return None
        between = (before + wall()) / 2e6
        return between - (parsedate_to_datetime(said).timestamp() + 0.5)  # whole seconds, cut off

    def wait(self, limit_s: float, say: Say) -> None:
        """Wait until the registry answers.

        Raises:
            RegistryAway: it did not within the limit.
            RegistryRefused: it refuses us.
        """
        until, said = monotonic() + limit_s, False
        while True:
            try:
                self._call("GET", "subjects", list)
            except RegistryAway as away:
                if monotonic() >= until:
                    raise
                if not said:
                    say(f"{away}; waiting up to {limit_s:.0f} s")
                    said = True
                sleep(max(0.0, min(_RETRY_S, until - monotonic())))
            else:
                return


def _may_pass(status: int) -> bool:
    return status >= 500 or status in {408, 429}


def _versions(subject: str) -> str:
    return f"subjects/{quote(subject, safe='')}/versions"


def _config(subject: str) -> str:
    return f"config/{quote(subject, safe='')}"


def _avro(text: str) -> dict[str, str]:
    return {"schema": text, "schemaType": "AVRO"}


def avro(found: dict[str, Any]) -> dict[str, Any] | None:
    """A registered schema as Avro; None for other kinds, for references to others, and for what is no record."""
    if found.get("schemaType") not in {None, "AVRO"} or found.get("references"):
        return None
    try:
        schema = json.loads(found.get("schema") or "")
    except ValueError:
        return None
    return schema if isinstance(schema, dict) and schema.get("type") == "record" else None
