"""A schema registry for tests: Apicurio on the loopback, in memory, speaking Confluent's API."""

import http.client
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.broker.jars import FLAGS, SMALL, Jvm, free_ports, registry_jar


class Registry:
    """One registry; what is registered goes when it ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"
        listen = ["-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={self.port}"]
        self.jvm = Jvm([*FLAGS, *SMALL, *listen, "-jar", str(registry_jar())], folder / "registry.log", self._answers)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/apis/ccompat/v7/subjects")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def start(self) -> float:
        """Start, wait until it answers; seconds that took."""
        return self.jvm.start()

    def kill(self) -> None:
        """SIGKILL."""
        self.jvm.kill()

    def stop(self) -> tuple[float, int]:
        """SIGTERM; seconds and exit code (143)."""
        return self.jvm.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.jvm.running:
            self.stop()
