"""The four figures of the older server: connections, messages, errors, latency.

Kept by prometheus-client for `/metrics`; the last minute also as numbers for `system_status`.
"""

import time
from collections import deque
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from claude_daemon.protocol import replies

LAST = 60.0  # seconds that the figures of system_status look back
SAMPLES = 10_000  # of them at most


class Metrics:
    """Counters of one daemon."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[tuple[float, float | None]] = deque(maxlen=SAMPLES)
        """When each request was answered, and how long it took; None for a refusal."""
        self.registry = CollectorRegistry()
        self._connections = Counter(
            "websocket_connections", "Connections that were accepted", registry=self.registry
        )
        self._connected = Gauge("websocket_connected", "Connections now", registry=self.registry)
        self._messages = Counter("websocket_messages", "Requests that were answered", registry=self.registry)
        self._errors = Counter(
            "websocket_errors", "Requests that were refused, by code", ["code"], registry=self.registry
        )
        self._malformed = Counter(
            "websocket_malformed_packets", "Packets that are not Socket.IO", registry=self.registry
        )
        self._latency = Histogram(
            "websocket_latency_seconds",
            "From a request's arrival to its answer",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
            registry=self.registry,
        )

    def connected(self) -> None:
        self._connections.inc()
        self._connected.inc()

    def disconnected(self) -> None:
        self._connected.dec()

    def malformed(self) -> None:
        self._malformed.inc()

    def answered(self, seconds: float) -> None:
        self._messages.inc()
        self._latency.observe(seconds)
        self._recent.append((self._clock(), seconds))

    def refused(self, code: str) -> None:
        self._messages.inc()
        self._errors.labels(code).inc()
        self._recent.append((self._clock(), None))

    def recent(self) -> replies.Metrics:
        """The last minute, or as far back as the samples reach."""
        now = self._clock()
        while self._recent and now - self._recent[0][0] > LAST:
            self._recent.popleft()
        total = len(self._recent)
        times = sorted(seconds for _, seconds in self._recent if seconds is not None)
        span = LAST if total < SAMPLES else max(now - self._recent[0][0], 1e-3)
        return replies.Metrics(
            messages_per_second=round(total / span, 3),
            error_rate=round((total - len(times)) / total, 4) if total else 0.0,
            latency_ms=replies.Latency(p50=_quantile(times, 0.5), p99=_quantile(times, 0.99)),
        )

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


def _quantile(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1_000, 3)
