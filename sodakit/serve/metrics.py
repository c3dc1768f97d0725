"""Numbers for Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sodakit.serve.turns import Turns
from sodakit.serve.worker import Worker

SOUND_BUCKETS_S = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What the server counts. Every app has a registry of its own, so that two in one process do not mix."""

    def __init__(self, worker: Worker, turns: Turns) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sodakit_requests", "Requests answered", ["route", "status"], registry=self.registry
        )
        self.request_s = Histogram(
            "sodakit_request_seconds",
            "From request to end of answer",
            ["route"],
            buckets=SOUND_BUCKETS_S,
            registry=self.registry,
        )
        self.first_sound_s = Histogram(
            "sodakit_first_sound_seconds",
            "From request to first sound",
            buckets=SOUND_BUCKETS_S,
            registry=self.registry,
        )
        self.speech_s = Counter("sodakit_speech_seconds", "Seconds of speech made", registry=self.registry)
        self.heard_s = Counter(
            "sodakit_heard_seconds", "Seconds of speech listened to", registry=self.registry
        )
        self.endings = Counter(
            "sodakit_endings",
            "How speech ended: end, limit, silence, loop",
            ["reason"],
            registry=self.registry,
        )
        gauges = {
            "active": ("Requests being answered", lambda: turns.num_held),
            "waiting": ("Requests in line", lambda: turns.num_waiting),
            "tokens": ("Tokens made since the start", lambda: worker.num_tokens),
            "model_busy_seconds": ("Time the model has worked since the start", lambda: worker.busy_s),
        }
        for name, (what, read) in gauges.items():
            Gauge(f"sodakit_{name}", what, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """The exposition, in Prometheus's text format."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware that counts and times requests by route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started_s, status = time.perf_counter(), 499  # nginx's number for a client that left

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            # The route, not the path: paths are the client's, and would make a counter for every guess.
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.request_s.labels(route).observe(time.perf_counter() - started_s)
