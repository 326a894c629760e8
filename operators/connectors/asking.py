"""Asking a server for JSON over HTTP: one connection that is kept, and a time limit.

The standard library's client: it is loaded anyway, where the registry's own client takes a quarter of a start.
No proxy is used, whatever the environment says: a registry stands where its broker stands.
"""

import json
import ssl
from base64 import b64encode
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_FORM = "application/vnd.schemaregistry.v1+json"


def here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def in_clear(url: str) -> bool:
    """Whether what is sent to an address can be read on a network."""
    at = urlsplit(url)
    return at.scheme != "https" and not here(at.hostname or "")


class Unanswered(Exception):
    """No answer within the time limit, or a connection that was refused or cut off."""


class Untrusted(Exception):
    """Who answers shows a certificate that nobody we trust vouches for, or that is not for this address."""


class NoJson(Exception):
    """An answer of this status that is no JSON."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Asking:
    """A server, asked by one thread at a time.

    Args:
        url: http or https, host, port and the path that everything asked for lies under.
        call_s: limit (s) of each wait: to connect, and for the next part of an answer.
        ca_file: authorities in PEM that may vouch for the server, instead of the system's.
        user: name and password.

    Raises:
        ValueError: the address is none.
        OSError: the file of authorities cannot be read.
    """

    def __init__(
        self, url: str, *, call_s: float, ca_file: Path | None = None, user: tuple[str, str] | None = None
    ) -> None:
        at = urlsplit(url)
        host, self._under = at.hostname or "", at.path.rstrip("/")
        self._connection: HTTPConnection = (
            HTTPSConnection(host, at.port, timeout=call_s, context=ssl.create_default_context(cafile=ca_file))
            if at.scheme == "https"
            else HTTPConnection(host, at.port, timeout=call_s)
        )
        self._headers = {"Accept": f"{_FORM}, application/json", "Content-Type": _FORM}
        self.date: str | None = None
        """When the last answer was given, as it says itself; None where it does not."""
        if user is not None:
            self._headers["Authorization"] = f"Basic {b64encode(':'.join(user).encode()).decode()}"

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask once; answers the status and what was said.

        Raises:
            Unanswered, Untrusted, NoJson: with what happened. Whether the server did what it was asked is not known.
        """
        kept = self._connection.sock is not None
        try:
            status, said = self._asked(method, path, body)
        except ssl.SSLCertVerificationError as error:
            self._connection.close()
            raise Untrusted(error.verify_message) from error
        except (OSError, HTTPException) as cut:
            self._connection.close()
            if not kept or isinstance(cut, TimeoutError):
                raise Unanswered(f"{type(cut).__name__} {cut}") from cut
            return self(method, path, body)  # a server closes connections that nobody used for a while
        try:
            return status, json.loads(said)
        except ValueError as error:
            raise NoJson(status) from error

    def _asked(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        said = None if body is None else json.dumps(body).encode()
        self._connection.request(method, f"{self._under}/{path}", said, self._headers)
        with self._connection.getresponse() as answer:
            self.date = answer.headers.get("Date")
            return answer.status, answer.read()
