"""How we reach a broker: what each profile means to the client, and what its errors mean to a person.

A wrong password or certificate fails no call of the client: it is told to a callback only, and the call then
times out. So every call here is made with an ear on that callback.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from ssl import get_default_verify_paths
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from operators.connectors.asking import here, in_clear
from operators.connectors.clock import monotonic

CALL_S = 10.0
"""How long one call of an admin client may take."""
ANSWER_S = CALL_S + 5.0
"""How long its answer is waited for: longer, since the end of the call says why there is none."""
_ROUND_S, _RETRY_S = 2.0, 0.5
"""Waiting goes in rounds: a refusal is only seen between two."""
_REFUSED = {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED}
_NO_RIGHT = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
PASSING = frozenset(
    {
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.FETCH_SESSION_ID_NOT_FOUND,
        KafkaError.INVALID_FETCH_SESSION_EPOCH,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    }
)
"""What a cluster answers while a node of it moves or is slow: who asks again is answered."""
Say = Callable[[str], None]


class BrokerAway(Exception):
    """The broker does not answer: waiting may help."""


class BrokerRefused(Exception):
    """The broker answers, and refuses us: only a changed setting or right helps."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """A broker and how we are known to it. Secrets stand here as values and are in no `repr`."""

    bootstrap: str
    profile: str = "plaintext"
    mechanism: str = "SCRAM-SHA-512"
    ca_file: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    token_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    scope: str | None = None

    @property
    def loopback(self) -> bool:
        """Whether every broker named is on this machine."""
        return all(here(one.strip().rpartition(":")[0]) for one in self.bootstrap.split(","))

    @property
    def tells_secret(self) -> bool:
        """Whether the secret for a token would go over a network in clear."""
        return in_clear(self.token_url or "")

    @property
    def principal(self) -> str:
        """What a broker calls us, where that follows from what we say; else a place to fill in."""
        named = {"plaintext": "ANONYMOUS", "sasl_ssl": self.username}.get(self.profile)
        return f"User:{named or 'NAME'}"

    def config(self) -> dict[str, Any]:
        """Settings of any client, without the ones of its kind."""
        common = {"bootstrap.servers": self.bootstrap, "log_level": 0}
        authorities = str(self.ca_file) if self.ca_file else _trusted()
        ssl = {"ssl.endpoint.identification.algorithm": "https", "ssl.ca.location": authorities}
        given: dict[str, Any]
        match self.profile:
            case "plaintext":
                given = {"security.protocol": "PLAINTEXT"}
            case "sasl_ssl":
                given = ssl | {
                    "security.protocol": "SASL_SSL",
                    "sasl.mechanism": self.mechanism,
                    "sasl.username": self.username,
                    "sasl.password": self.password,
                }
            case "mtls":
                given = ssl | {
                    "security.protocol": "SSL",
                    "ssl.certificate.location": str(self.certificate_file),
                    "ssl.key.location": str(self.key_file),
                    "ssl.key.password": self.key_password,
                }
            case "oauthbearer":
                given = ssl | {
                    "security.protocol": "SASL_SSL",
                    "sasl.mechanism": "OAUTHBEARER",
                    "sasl.oauthbearer.method": "oidc",
                    "sasl.oauthbearer.token.endpoint.url": self.token_url,
                    "sasl.oauthbearer.client.id": self.client_id,
                    "sasl.oauthbearer.client.secret": self.client_secret,
                    "sasl.oauthbearer.scope": self.scope,
                    "https.ca.location": authorities,
                }
            case other:
                raise ValueError(f"profile {other!r}")
        return common | {key: value for key, value in given.items() if value is not None}


def _trusted() -> str | None:
    """Authorities of this system, as Python finds them for the registry: a client left to itself knows fewer places."""
    places = get_default_verify_paths()
    return places.cafile or places.capath


def refuses(error: KafkaError) -> bool:
    """Whether an error told to a client's callback means that we are not let in.

    A certificate that the broker does not trust comes as an alert on a connection that stood already (TLS 1.3), so
    the client calls it a failure of the transport.
    """
    return error.code() in _REFUSED or "SSL alert" in error.str()


class Admin:
    """An admin client whose calls say in words why they failed."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._heard: deque[KafkaError] = deque(maxlen=32)
        self._client = AdminClient(
            access.config() | {"error_cb": self._heard.append, "reconnect.backoff.max.ms": 1_000}
        )

    @contextmanager
    def client(self) -> Iterator[AdminClient]:
        """The client, for calls whose errors are turned into BrokerAway and BrokerRefused."""
        self._heard.clear()
        try:
            yield self._client
        except KafkaException as error:
            self._client.poll(0)
            raise self._meaning(error.args[0]) from error

    def _meaning(self, error: KafkaError) -> Exception:
        at = self.access.bootstrap
        for told in [error, *self._heard]:
            if refuses(told):
                return BrokerRefused(
                    f"{at}: the broker refuses us for profile {self.access.profile}; check the files and names in "
                    f"[kafka]: {told.str()}"
                )
        if error.code() in _NO_RIGHT:
            return BrokerRefused(f"{at}: we have no right to do that; ask for an ACL: {error.str()}")
        if error.code() in _AWAY or error.retriable():
            why = next(
                (told for told in self._heard if told.code() in {KafkaError._TRANSPORT, KafkaError._RESOLVE}), error
            )
            return BrokerAway(f"{at}: the broker does not answer: {why.str()}")
        return BrokerRefused(f"{at}: {error.str()}")

    def wait(self, limit_s: float, say: Say) -> None:
        """Wait until the broker answers.

        Raises:
            BrokerAway: it did not within the limit.
            BrokerRefused: it refuses us; waiting would not help.
        """
        until, said = monotonic() + limit_s, False
        while True:
            try:
                with self.client() as client:
                    client.list_topics(timeout=max(0.2, min(_ROUND_S, until - monotonic())))
                    return
            except BrokerAway as away:
                if until - monotonic() <= _RETRY_S:
                    raise
                if not said:
                    say(f"{away}; waiting up to {limit_s:.0f} s")
                    said = True
                self._client.poll(_RETRY_S)


_AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._MSG_TIMED_OUT,
    KafkaError.REQUEST_TIMED_OUT,
}
