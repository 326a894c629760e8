"""A broker that asks for a bearer token, and who gives tokens out: OAuth's client credentials on the loopback.

The broker takes any token that names somebody and has not expired (Kafka's unsecured validator): what is shown with it
is that a token is fetched, sent over TLS and fetched anew, not how a broker checks a signature.
"""

import json
import time
from base64 import b64encode, urlsafe_b64encode
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from tests.answering import Answer, Answering
from tests.broker.jars import free_ports
from tests.broker.kafka import Kafka
from tests.broker.secured import Authority

LIVES_S, PROVEN_MS = 6, 3_000
"""How long a token lives, and after how long a connection must show one again."""
LISTENERS = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},OAUTH://127.0.0.1:%(oauth)d
advertised.listeners=PLAINTEXT://127.0.0.1:{port},OAUTH://127.0.0.1:%(oauth)d
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,OAUTH:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location=%(folder)s/broker.pem
listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.oauth.oauthbearer.connections.max.reauth.ms=%(proven)d
listener.name.oauth.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
"""


class Issuer(Answering):
    """Gives a token to who knows the secret; `given` counts by who asked, `scopes` by what was asked for."""

    def __init__(self, client: str, secret: str, authority: Authority) -> None:
        known = f"Basic {b64encode(f'{client}:{secret}'.encode()).decode()}"
        self.given: Counter[str] = Counter()
        self.scopes: Counter[str] = Counter()
        self.authority = authority
        issuer = self

        class Handler(Answer):
            def do_POST(self) -> None:  # noqa: N802 -- a name of the library
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                if self.headers.get("Authorization") != known or form.get("grant_type") != ["client_credentials"]:
                    self.say(401, {"error": "invalid_client"})
                    return
                issuer.given[client] += 1
                issuer.scopes.update(form.get("scope", []))
                self.say(200, {"access_token": token(client), "token_type": "Bearer", "expires_in": LIVES_S})

        super().__init__(Handler, authority.serves("issuer"))
        self.url += "/token"


def token(subject: str) -> str:
    """A token without a signature."""
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": subject, "iat": now, "exp": now + LIVES_S, "scope": "kafka"})
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


@dataclass(frozen=True)
class Guarded:
    """A running broker and its door for bearers."""

    kafka: Kafka
    authority: Authority
    door: str


def guarded(folder: Path) -> Guarded:
    """A broker, not started yet."""
    authority = Authority(folder)
    authority.issue("broker")
    (oauth,) = free_ports(1)
    extra = LISTENERS % {"oauth": oauth, "folder": folder, "proven": PROVEN_MS}
    return Guarded(Kafka(folder / "kafka", extra=extra), authority, f"127.0.0.1:{oauth}")
