"""Health and metrics of a process, on a small server of our own: it never asks the broker for anything."""

import json
import math
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from flows.causes import journal, told
from flows.settings import WrongUse
from operators.connectors.clock import monotonic, wall
from operators.connectors.merge import STEP
from operators.pulse import Pulse
from schemas.derived import Command, Decision, DwellReached, Outcome, Score, Visit
from schemas.items import Batch, Event, Tally, Tick, Watermark
from schemas.operations import DeadLetter

disable_created_metrics()  # type: ignore[no-untyped-call]  # one series more for each, and nobody asks for it
_SECONDS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SILENT_S = 10.0
"""How long the page waits for somebody who says nothing, or takes nothing."""
_SHARES = tuple(tenth / 10 for tenth in range(1, 11))


class Meters:
    """The metrics of one process, in a registry of their own. Labels come from closed sets: no id is one."""

    def __init__(self, epoch_s: float) -> None:
        self.registry = CollectorRegistry()
        self._read = self._counter("input_events", "Rows read", "topic")
        self._fates = self._counter("input_fates", "Rows by what became of them", "topic", "fate")
        self._late = self._counter("late_events", "Rows too late to count", "topic")
        self._dead = self._counter("dead_letters", "Messages refused", "stage", "reason")
        self._decisions = self._counter("decisions", "Candidates decided on", "campaign", "outcome")
        self._suppressed = self._counter("suppressed", "Candidates held back", "reason")
        self._refusals = self._counter("consent_refusals", "What a consent forbade, by where that was seen", "gate")
        self._actions = self._counter("actions", "Actions commanded", "campaign", "channel")
        self._starts = self._counter("starts", "Starts of this deployment by their cause", "cause")
        self._stage = self._histogram("stage_seconds", "Time in a stage, a micro-batch", "stage")
        self._decision = self._histogram("decision_latency_seconds", "From heard to decided, a micro-batch with one")
        self._publish = self._histogram(
            "publish_latency_seconds", "From decided to written, a micro-batch with an action"
        )
        self._wait = self._histogram("event_wait_seconds", "From a dwell reached, by event time, to its being heard of")
        self._timers = self._histogram("timer_lateness_seconds", "From a step of the clock to its timers' having run")
        self._score = self._histogram("score", "Scores given", buckets=_SHARES)
        self._marked_at: int | None = None
        self._gauge("watermark_lag_seconds", "The watermark of presence behind the clock").set_function(self._behind)
        self._ticked = 0
        self._stall = self._histogram("epoch_stall_seconds", "The source stood still for the close of an epoch")
        self._resume = self._gauge("resume_seconds", "From the start of the process to its first batch")
        self.pulse = Pulse(monotonic, epoch_s, self._stall.observe)
        self._gauge("epoch_age_seconds", "Since the last durable epoch").set_function(lambda: self.pulse.age)
        self._dirty = self._gauge("epoch_dirty_keys", "Keys that the last epoch changed")
        self._rolled = self._counter("state_rollbacks", "Commits walked back at the start")
        self.resumed = 0.0

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"footfall_{name}", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"footfall_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        return Histogram(f"footfall_{name}", meaning, labels, registry=self.registry, buckets=buckets)

    def started(self, starts: Mapping[str, int], rolled_back: int) -> None:
        """How often this deployment was started, by cause, and how far its state was walked back."""
        for cause, count in starts.items():
            self._starts.labels(cause).inc(count)
        self._rolled.inc(rolled_back)

    def watch(self, dirty: Callable[[], int], looked_up: Iterable[Collector]) -> None:
        """Where the figures come from that are asked for at each scrape."""
        self._dirty.set_function(dirty)
        for one in looked_up:
            self.registry.register(one)

    def opened(self, seconds: float) -> None:
        """The first batch came out, so long after the start of the process."""
        self.resumed = seconds
        self._resume.set(seconds)

    def take(self, batch: Batch) -> None:
        """Count what a micro-batch holds when it is written."""
        decided = commanded = False
        for item in batch.items:
            kind = type(item)
            if kind is Tally:
                self._tally(item)  # type: ignore[arg-type]
            elif kind is Event and item.offset < 0:  # type: ignore[union-attr]
                record = item.record  # type: ignore[union-attr]
                if isinstance(record, Decision):
                    decided = True
                    self._decided(record)
                elif isinstance(record, Command):
                    commanded = True
                    self._actions.labels(record.campaign_id, record.channel).inc()
                elif isinstance(record, DeadLetter):
                    self._dead.labels(record.stage, record.reason).inc()
                elif isinstance(record, DwellReached):
                    self._wait.observe(max(0, item.clock - record.reached_at) / 1e6)  # type: ignore[union-attr]
                elif isinstance(record, Score):
                    self._score.observe(record.score)
                elif isinstance(record, Visit) and record.exit_reason == "WITHDRAWN":
                    self._refusals.labels("collect").inc()
                elif isinstance(record, Outcome) and record.reason.startswith("CONSENT_"):
                    self._refusals.labels("dispatch").inc()
            elif kind is Tick:
                self._stepped(item.clock)  # type: ignore[union-attr]
            elif kind is Watermark and "dwell" in batch.stamps:
                self._marked_at = item.at  # type: ignore[union-attr]
        self._timed(batch.stamps, decided=decided, commanded=commanded)

    def page(self) -> bytes:
        """All metrics as text."""
        return generate_latest(self.registry)

    def _tally(self, tally: Tally) -> None:
        if tally.fate == "read":
            self._read.labels(tally.topic).inc(tally.count)
            return
        self._fates.labels(tally.topic, tally.fate).inc(tally.count)
        if tally.fate == "late":
            self._late.labels(tally.topic).inc(tally.count)

    def _decided(self, record: Decision) -> None:
        for one in record.candidates:
            fired = one.verdict == "FIRED"
            self._decisions.labels(one.campaign_id, one.verdict if fired else one.reason).inc()
            if not fired:
                self._suppressed.labels(one.reason).inc()
                if one.reason.startswith("CONSENT_"):
                    self._refusals.labels("decide").inc()

    def _stepped(self, clock: int) -> None:
        """Timers ran up to a step of the clock; of one that was left out, they waited since it was due."""
        if clock <= self._ticked:
            return
        due = min(clock, self._ticked + STEP) if self._ticked else clock
        self._ticked = clock
        self._timers.observe(max(0, wall() - due) / 1e6)

    def _behind(self) -> float:
        return math.nan if self._marked_at is None else (wall() - self._marked_at) / 1e6

    def _timed(self, stamps: Mapping[str, int], *, decided: bool, commanded: bool) -> None:
        before: int | None = None
        for stage, at in stamps.items():
            if before is not None:
                self._stage.labels(stage).observe(max(0, at - before) / 1e6)
            before = at
        if before is not None and "heard" in stamps:
            now = wall()
            self._stage.labels("publish").observe(max(0, now - before) / 1e6)
            if decided:
                self._decision.observe(max(0, stamps.get("person", now) - stamps["heard"]) / 1e6)
            if commanded:
                self._publish.observe(max(0, now - stamps.get("person", now)) / 1e6)


class Server:
    """`/startup`, `/ready`, `/live` and `/metrics`, from threads that end with the process.

    Args:
        listen: host:port; port 0 takes a free one.
        meters: what is served.

    Raises:
        WrongUse: the address cannot be listened on.
    """

    def __init__(self, listen: str, meters: Meters) -> None:
        self._server = listening(listen, _handler(meters))
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Listener(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, *_: Any) -> None:
        """Say what went wrong in one line of the log; that somebody left before his answer is no news."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            journal().warning("page", cause=told(error))


def listening(listen: str, handler: type[BaseHTTPRequestHandler] = BaseHTTPRequestHandler) -> ThreadingHTTPServer:
    """Take an address, host:port.

    Raises:
        WrongUse: it cannot be listened on.
    """
    host, _, port = listen.rpartition(":")
    try:
        return _Listener((host.strip("[]"), int(port)), handler)
    except OSError as error:
        raise WrongUse(
            f"listen in [metrics] must be a free address of this machine; {listen}: {error.strerror}"
        ) from error


def _handler(meters: Meters) -> type[BaseHTTPRequestHandler]:
    pulse = meters.pulse
    checks: dict[str, Callable[[], bool]] = {
        "/startup": lambda: pulse.started,
        "/ready": lambda: pulse.ready,
        "/live": lambda: pulse.alive,
    }

    class Handler(BaseHTTPRequestHandler):
        """Answers; says nothing to a log."""

        timeout = _SILENT_S
        server_version = "footfall"
        sys_version = ""

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, meters.page())
            elif self.path in checks:
                well = checks[self.path]()
                about = {"ok": well, "epochs": pulse.epochs, "epoch_age_s": round(pulse.age, 3)}
                self._answer(200 if well else 503, "application/json", json.dumps(about).encode() + b"\n")
            else:
                self._answer(404, "text/plain", b"/startup /ready /live /metrics\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Scrapes are no news."""

    return Handler
