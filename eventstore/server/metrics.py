"""`/metrics`: what the parts count, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from eventstore.follower import Lag, Standing, lag
from eventstore.measure import SECONDS, Histogram
from eventstore.membership import Membership
from eventstore.server.call import Answer, Call
from eventstore.server.times import now
from eventstore.store import Store
from projections.engine import Engine

if TYPE_CHECKING:
    from eventstore.delivery.nats import Status
    from eventstore.server.feeds import Feeds
    from eventstore.server.streaming import Streaming

_OF_PROJECTIONS: tuple[tuple[str, str, Callable[[Standing], float]], ...] = (
    ("position", "Up to where the tables are", lambda one: one.position),
    ("lag_events", "Events that are not in the tables yet", lambda one: one.lag_events),
    ("lag_seconds", "Age of the oldest event that is not in the tables yet", lambda one: one.lag_seconds),
    (
        "halted_position",
        "The event that it cannot handle and stands at, or 0",
        lambda one: one.halted_at or 0,
    ),
    ("here", "1 when this node follows for it, 0 when another does", lambda one: one.state != "elsewhere"),
    ("parked_events", "Events that it could not handle and went on without", lambda one: one.parked),
)

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
METRICS_TYPE = "text/plain; version=0.0.4"


class Meter:
    """Requests, as the front counts them."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int], int] = {}
        self.seconds: dict[str, Histogram] = {}

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        key = (route, method if method in METHODS else "other", status)
        self.requests[key] = self.requests.get(key, 0) + 1
        histogram = self.seconds.get(route)
        if histogram is None:
            histogram = self.seconds[route] = Histogram(*SECONDS)
        histogram.observe(seconds)


class Metrics(Collector):
    """Reads the counters of the running parts when it is asked."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        members: Membership,
        feeds: Feeds,
        meter: Meter,
        stream: Streaming | None,
    ) -> None:
        self._store = store
        self._members = members
        self._engine = engine
        self._standings: list[Standing] = []
        self._stream = stream
        self._published: Status | None = None
        self._unpublished = Lag(0, 0.0)
        self._feeds = feeds
        self._meter = meter
        self._wal_bytes = 0
        self._writable = True
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    async def answer(self, call: Call) -> Answer:
        """`GET /metrics`."""
        call.only("GET", "HEAD")
        pressure = await self._store.log.pressure()
        self._wal_bytes, self._writable = pressure.wal_bytes, not pressure.problem
        if self._stream is not None:
            self._published = await self._stream.status()
            self._unpublished = await lag(self._store.log, self._published.position, now())
        self._standings = await self._engine.standings(now())
        return Answer(200, generate_latest(self._registry), content_type=METRICS_TYPE)

    def collect(self) -> Iterator[Metric]:
        yield from self._of_requests()
        yield from self._of_the_writer()
        yield _gauge("quire_log_position", "The tip: position of the last event", self._store.position)
        yield _gauge(
            "quire_wal_bytes", "Bytes of the write-ahead log that could not be checkpointed", self._wal_bytes
        )
        yield _gauge("quire_writable", "1 when writes are accepted", float(self._writable))
        yield _gauge("quire_nodes", "Nodes that serve the log", len(self._members.roll.nodes))
        yield _gauge("quire_types", "Resource types that are served", len(self._store.registry.names()))
        yield _gauge("quire_feed_clients", "Clients that follow the feed", self._feeds.clients)
        yield from self._of_projections()
        if self._stream is not None and self._published is not None:
            yield from _of_the_publisher(self._published, self._unpublished)
            if self._stream.broker is not None:
                yield CounterMetricFamily(
                    "quire_broker_starts",
                    "Starts of the embedded nats-server",
                    value=self._stream.broker.starts,
                )

    def _of_requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "quire_requests", "Requests answered", labels=("route", "method", "status")
        )
        for (route, method, status), count in self._meter.requests.items():
            requests.add_metric((route, method, str(status)), count)
        yield requests
        seconds = HistogramMetricFamily(
            "quire_request_seconds", "Seconds from a request's head to its answer", labels=("route",)
        )
        for route, histogram in self._meter.seconds.items():
            seconds.add_metric((route,), histogram.buckets(), histogram.total)
        yield seconds

    def _of_projections(self) -> Iterator[Metric]:
        """Of the async ones: the others are always at the tip."""
        for name, help, value in _OF_PROJECTIONS:
            family = GaugeMetricFamily(f"quire_projection_{name}", help, labels=("projection",))
            for one in self._standings:
                family.add_metric((one.name,), value(one))
            yield family
        building = GaugeMetricFamily(
            "quire_projection_rebuild_position",
            "Up to where the tables are that are built anew",
            labels=("projection",),
        )
        for name, position in self._engine.building.items():
            building.add_metric((name,), position)
        yield building

    def _of_the_writer(self) -> Iterator[Metric]:
        stats = self._store.stats
        yield _histogram("quire_batch_events", "Events of one commit", stats.events)
        yield _histogram("quire_batch_seconds", "Seconds from taking the log to its commit", stats.seconds)
        yield _gauge("quire_queue_transactions", "Writes that wait for the log", stats.queued())
        yield CounterMetricFamily(
            "quire_batches_failed", "Batches that the database refused", value=stats.failed
        )


def _of_the_publisher(status: Status, behind: Lag) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "quire_publisher_state", "1 for the state that the publisher is in", labels=("state",)
    )
    for state in ("starting", "publishing", "away", "halted", "elsewhere"):
        states.add_metric((state,), float(status.state == state))
    yield states
    yield _gauge(
        "quire_publisher_position", "The last position that the stream acknowledged", status.position
    )
    yield _gauge("quire_publisher_lag_events", "Events that the stream does not have yet", behind.events)
    yield _gauge("quire_publisher_lag_seconds", "Age of the oldest of them", behind.seconds)


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value=value)


def _histogram(name: str, help: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, help, buckets=histogram.buckets(), sum_value=histogram.total)
