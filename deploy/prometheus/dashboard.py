"""Makes the Grafana dashboard: `python deploy/prometheus/dashboard.py > quire.json`, then import it."""

from __future__ import annotations

import json
from typing import Any

PANELS: list[tuple[str, str, str, str]] = [
    ("Requests", "reqps", "sum by (route) (rate(quire_requests_total[1m]))", "{{route}}"),
    ("Refusals and errors", "reqps", 'sum by (status) (rate(quire_requests_total{status=~"[45].."}[1m]))', "{{status}}"),
    (
        "Time to an answer, p99", "s",
        "histogram_quantile(0.99, sum by (route, le) (rate(quire_request_seconds_bucket[1m])))", "{{route}}",
    ),
    ("Events a second", "ops", "rate(quire_log_position[1m])", "events"),
    (
        "Time of a commit", "s",
        "histogram_quantile(0.99, sum by (le) (rate(quire_batch_seconds_bucket[1m])))", "p99",
    ),
    ("Events in a commit, mean", "none", "rate(quire_batch_events_sum[1m]) / rate(quire_batch_events_count[1m])", "events"),
    ("Writes that wait", "none", "quire_queue_transactions", "transactions"),
    ("Write-ahead log held back", "bytes", "quire_wal_bytes", "bytes"),
    ("Clients of the feed", "none", "quire_feed_clients", "clients"),
    ("Events not in the stream yet", "none", "quire_publisher_lag_events", "events"),
    ("Stream behind the log", "s", "quire_publisher_lag_seconds", "stream"),
    ("State of the publisher", "none", "quire_publisher_state == 1", "{{state}}"),
    ("Projections behind the log", "s", "quire_projection_lag_seconds", "{{projection}}"),
    ("Events not in a projection yet", "none", "quire_projection_lag_events", "{{projection}}"),
    ("Parked events", "none", "quire_projection_parked_events", "{{projection}}"),
    ("Memory", "bytes", "process_resident_memory_bytes", "resident"),
]  # fmt: skip


def panel(number: int, title: str, unit: str, query: str, legend: str) -> dict[str, Any]:
    """One time series, two to a row."""
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "targets": [{"refId": "A", "expr": query, "legendFormat": legend}],
    }


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    return {
        "title": "Quire",
        "uid": "quire",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "panels": [panel(number, *one) for number, one in enumerate(PANELS)],
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=2))
