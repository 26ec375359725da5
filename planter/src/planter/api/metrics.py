"""``/metrics``: Prometheus text. Names and units as Prometheus wants them; no session ids in labels."""

from collections import Counter as Tally

import anyio
import structlog
from nats.errors import Error as NatsError
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from starlette.types import Scope

from planter.api.planner_side import PlannerSide
from planter_protocol.errors import ProtocolError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ASK_SECONDS = 3.0
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What is counted here, and what is asked for at each scrape."""

    def __init__(self, version: str) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("planter_build", "Version of Planter", registry=registry).info({"version": version})
        self._requests = Counter(
            "planter_http_requests", "Answers", ("route", "method", "status"), registry=registry
        )
        self._seconds = Histogram(
            "planter_http_request_duration_seconds",
            "Time until an answer began",
            ("route", "method"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._sessions = Gauge("planter_sessions", "Sessions in the listing", ("status",), registry=registry)
        self._runtimes = Gauge("planter_runtimes", "Registered runtimes", ("state",), registry=registry)
        self._slots = Gauge("planter_runtime_slots", "Slots of the runtimes", ("use",), registry=registry)
        self._answers = Gauge("planter_planner_up", "Whether a planner answers", registry=registry)
        self._connected = Gauge("planter_nats_connected", "Whether NATS is connected", registry=registry)
        self._reconnects = Gauge(
            "planter_nats_reconnects", "Reconnections of this interface to NATS", registry=registry
        )
        self._subscriptions = Gauge(
            "planter_nats_subscriptions", "Subscriptions of this interface", registry=registry
        )

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """An answer has begun."""
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in ("GET", "POST") else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)

    async def text(self, side: PlannerSide) -> bytes:
        """Everything, with what NATS and a planner say now; what is not known is left out."""
        nc = side.nc
        self._connected.set(nc.is_connected)
        self._reconnects.set(nc.stats["reconnects"])
        self._subscriptions.set(len(nc._subs))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        self._sessions.clear()
        self._runtimes.clear()
        self._slots.clear()
        self._answers.set(0)
        try:
            with anyio.fail_after(_ASK_SECONDS):
                await self._ask(side)
        except (ProtocolError, NatsError, TimeoutError):
            pass  # what is not known is left out
        except Exception:
            log.exception("metrics.incomplete")
        return generate_latest(self._registry)

    async def _ask(self, side: PlannerSide) -> None:
        for status, number in Tally(record.status for record in await side.sessions()).items():
            self._sessions.labels(status).set(number)
        info = await side.info()
        self._answers.set(1)
        for state, number in Tally(runtime.state for runtime in info.runtimes).items():
            self._runtimes.labels(state).set(number)
        in_use = sum(runtime.in_use for runtime in info.runtimes)
        self._slots.labels("busy").set(in_use)
        self._slots.labels("free").set(sum(runtime.slots for runtime in info.runtimes) - in_use)
