"""A doorkeeper before a registry: TLS with a certificate of an authority of our own, and a name and a password."""

import http.client
import ssl
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.broker.secured import Authority

_PASSED_ON = ("Content-Type", "Accept")


class Doorkeeper:
    """Hands on what comes with the right name and password, and says 401 to everything else."""

    def __init__(self, registry: str, authority: Authority, username: str, password: str) -> None:
        behind = urlsplit(registry)
        known = f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"
        self.passed = self.refused = 0
        keeper = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

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

            def give(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = answer  # noqa: N815 -- names of the library

            def log_message(self, *_: object) -> None:
                pass

        key, certificate, _ = authority.issue("registry")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}{behind.path}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
