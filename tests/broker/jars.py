"""Jars of the broker and the registry: fetched once by Maven into .cache/broker, and the processes that run them."""

import fcntl
import re
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "broker"
APICURIO = "3.0.9"
FLAGS = ("-Xms64m", "-XX:-UsePerfData", "-Xshare:auto", "-Djava.awt.headless=true")
SMALL = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
FAST = ("-Xmx1g", "-XX:+UseG1GC")
"""Heap and compilers for tests, and for benchmarks."""
BOOT_LIMIT_S = 60.0
STOPPED = 143
"""Exit code of a JVM that was asked to end."""


class NotHere(Exception):
    """Java or Maven is missing: there is no broker to test against."""


class DidNotStart(Exception):
    """The process ended, or was not ready in time; the message holds the end of its log."""


@cache
def java() -> str:
    """The java to run: 17 or later."""
    found = shutil.which("java")
    if found is None:
        raise NotHere("java 17 is missing: install a JDK, or name a running service by its variable")
    said = subprocess.run([found, "-version"], check=False, capture_output=True, text=True).stderr
    version = re.search(r'version "([0-9]+)', said)
    if version is None or int(version[1]) < 17:
        raise NotHere(f"java 17 is missing: {found} is {said.splitlines()[0] if said else 'mute'}")
    return found


def _once(target: Path, maven: list[str], after: Callable[[], object] = lambda: None) -> Path:
    """Run Maven once for a target; a mark is set when all has ended well, under a lock between processes."""
    CACHE.mkdir(parents=True, exist_ok=True)
    mark = CACHE / f"{target.name}.complete"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.exists():
            return target
        mvn = shutil.which("mvn")
        if mvn is None:
            raise NotHere(f"mvn is missing and {target} is not filled: install Maven, or name a running service")
        shutil.rmtree(target, ignore_errors=True)
        done = subprocess.run(
            [mvn, "-q", "-B", *maven, f"-DoutputDirectory={target}"], check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise NotHere(f"maven could not fetch the jars: {(done.stdout + done.stderr).strip()[-400:]}")
        after()
        mark.touch()
    return target


def kafka_jars() -> str:
    """Class path of the broker; fetched the first time."""
    java()
    folder = _once(
        CACHE / "kafka", ["-f", str(HERE / "pom.xml"), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    )
    return ":".join(map(str, sorted(folder.glob("*.jar"))))


def registry_jar() -> Path:
    """The registry's jar; fetched and unpacked the first time."""
    java()
    name = f"apicurio-registry-app-{APICURIO}"
    artifact = f"io.apicurio:apicurio-registry-app:{APICURIO}:tar.gz:all"
    target = CACHE / "registry"

    def unpack() -> None:
        with tarfile.open(target / f"{name}-all.tar.gz") as archive:
            archive.extractall(target, filter="data")
        (target / f"{name}-all.tar.gz").unlink()

    return _once(target, ["dependency:copy", f"-Dartifact={artifact}"], unpack) / f"{name}-runner.jar"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody has now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Jvm:
    """One Java process on the loopback; it is ended by the id it was started with."""

    def __init__(self, arguments: list[str], log: Path, ready: Callable[[], bool]) -> None:
        self._arguments, self._log, self._ready = arguments, log, ready
        self._process: subprocess.Popen[bytes] | None = None
        self.boot_s = 0.0

    @property
    def pid(self) -> int:
        """Id of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start, wait until it answers; seconds that took."""
        assert self._process is None, "it runs already"
        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([java(), *self._arguments], stdout=log, stderr=log)
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() - began > BOOT_LIMIT_S:
                self.kill()
                raise DidNotStart(f"not ready after {time.monotonic() - began:.0f} s: {self.said()}")
            time.sleep(0.05)
        self.boot_s = time.monotonic() - began
        return self.boot_s

    def kill(self) -> None:
        """SIGKILL, as a power cut."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> tuple[float, int]:
        """SIGTERM; seconds to its end, and its exit code."""
        assert self._process is not None
        began, process, self._process = time.monotonic(), self._process, None
        process.terminate()
        try:
            code = process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        return time.monotonic() - began, code

    @property
    def running(self) -> bool:
        """Whether it was started and not ended here."""
        return self._process is not None

    def rss_mb(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * 4096 / 1e6

    def said(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-2_000:] if self._log.exists() else ""


class Service:
    """What one Java process serves: killed and started again at will, and stopped where `with` ends."""

    jvm: Jvm

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
