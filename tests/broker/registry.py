"""A schema registry for tests: Apicurio on the loopback, in memory, speaking Confluent's API."""

import http.client
from pathlib import Path

from tests.broker.jars import FLAGS, SMALL, Jvm, Service, free_ports, registry_jar


class Registry(Service):
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
