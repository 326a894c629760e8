"""A doorkeeper before a registry: TLS with a certificate of an authority of our own, and a name and a password."""

import http.client
from base64 import b64encode
from urllib.parse import urlsplit

from tests.answering import Answer, Answering
from tests.broker.secured import Authority

_PASSED_ON = ("Content-Type", "Accept")


class Doorkeeper(Answering):
    """Hands on what comes with the right name and password, and says 401 to everything else."""

    def __init__(self, registry: str, authority: Authority, username: str, password: str) -> None:
        behind = urlsplit(registry)
        known = f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"
        self.passed = self.refused = 0
        keeper = self

        class Handler(Answer):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Authorization") != known:
                    keeper.refused += 1
                    self.give(401, b"who are you?", "text/plain")
                    return
                keeper.passed += 1
                inner = http.client.HTTPConnection(behind.hostname or "", behind.port, timeout=30)
                headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
                inner.request(self.command, self.path, body, headers)
                with inner.getresponse() as said:
                    self.give(said.status, said.read(), said.headers.get_content_type())
                inner.close()

            do_GET = do_POST = do_PUT = answer  # noqa: N815 -- names of the library

        super().__init__(Handler, authority.serves("registry"))
        self.url += behind.path
