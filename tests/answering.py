"""HTTP servers on the loopback that answer as a test wants, in the open or over TLS."""

import json
import ssl
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self


class Answer(BaseHTTPRequestHandler):
    """Gives whole answers and logs nothing."""

    protocol_version = "HTTP/1.1"

    def give(self, status: int, body: bytes, kind: str) -> None:
        """One answer of a media type."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        with suppress(ConnectionError):  # who asked may have gone
            self.end_headers()
            self.wfile.write(body)

    def say(self, status: int, said: object) -> None:
        """One answer in JSON."""
        self.give(status, json.dumps(said).encode(), "application/json")

    def log_message(self, *_: object) -> None:
        pass


class Answering:
    """Answers from `with` to its end; the port is taken at once."""

    def __init__(self, answer: type[Answer], tls: ssl.SSLContext | None = None) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), answer)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
