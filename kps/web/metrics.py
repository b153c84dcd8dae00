"""Snapshot -> Prometheus metrics. One collector over memory; it never asks a process or the database."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kps.core.health import ChildView, Counted, Snapshot
from kps.process.counters import COUNTERS, Of

CHILD_STATES = ("starting", "up", "stopping", "dead", "crash_loop")


class MetricInfo(NamedTuple):
    """One metric of /metrics, as the README lists it."""

    name: str
    type: str
    """`counter`, `gauge` or `histogram`."""
    labels: tuple[str, ...]
    help: str


METRICS: tuple[MetricInfo, ...] = (
    MetricInfo("kps_build_info", "gauge", ("version", "instance"), "Always 1; what runs here."),
    MetricInfo("kps_child_up", "gauge", ("child",), "1 while the child process is up."),
    MetricInfo("kps_child_state", "gauge", ("child", "state"), "1 for the state that the child process is in."),
    MetricInfo("kps_child_heartbeat_age_seconds", "gauge", ("child",), "Age of the work loop's last heartbeat."),
    MetricInfo("kps_child_start_time_seconds", "gauge", ("child",), "When the child process started, Unix time."),
    MetricInfo("kps_printer_able", "gauge", ("printer",), "1 if the printer can print now; absent while unknown."),
    MetricInfo("kps_printer_connected", "gauge", ("printer",), "1 while the printer's connection is open."),
    MetricInfo("kps_tickets_queued", "gauge", ("printer",), "Tickets waiting for the device, claimed ones among them."),
    MetricInfo("kps_tickets_new", "gauge", (), "Tickets in status new."),
    MetricInfo("kps_tickets_printing", "gauge", (), "Tickets in status printing."),
    MetricInfo("kps_oldest_queued_ticket_age_seconds", "gauge", (), "Age of the oldest ticket in status new."),
    MetricInfo("kps_db_up", "gauge", (), "1 while the database answers and has what we need."),
    MetricInfo("kps_db_snapshot_age_seconds", "gauge", (), "Age of the counts from the database."),
    MetricInfo("kps_config_last_reload_successful", "gauge", (), "1 if the printer rows could be read again."),
    MetricInfo("kps_supervisor_loop_lag_seconds", "gauge", (), "How late the supervisor's last round was."),
    MetricInfo("kps_printer_fallbacks_total", "counter", ("from", "to"), "Tickets that moved on to another printer."),
    MetricInfo("kps_printer_tickets_total", "counter", ("printer",), "Tries to print a ticket, good or bad."),
    MetricInfo("kps_printer_print_seconds", "histogram", ("printer",), "Seconds from taking a ticket to its proof."),
    *(MetricInfo(counter.metric, "counter", counter.labels, counter.help) for counter in COUNTERS),
)
"""All metrics in the order of /metrics: an interface, listed in the README. Most counters are declared where the
processes that count them are."""

_TRIES = ("printed", "failed_tries")
"""The counters whose sum `kps_printer_tickets_total` is."""
SUPERVISOR = "supervisor"
"""The value of `child` for what the supervisor counts itself."""

Labels = tuple[str, ...]
_Simple = TypeVar("_Simple", CounterMetricFamily, GaugeMetricFamily)


class _Samples:
    """Values by metric and labels. Equal labels are summed, so that no series can appear twice in a scrape."""

    def __init__(self) -> None:
        self._values: dict[str, dict[Labels, float]] = {info.name: {} for info in METRICS if info.type != "histogram"}
        self._histograms: dict[str, dict[Labels, tuple[dict[float, int], float]]] = {
            info.name: {} for info in METRICS if info.type == "histogram"
        }

    def put(self, name: str, value: float, *labels: str) -> None:
        series = self._values[name]
        series[labels] = series.get(labels, 0.0) + value

    def put_histogram(self, name: str, buckets: dict[float, int], total: float, *labels: str) -> None:
        self._histograms[name][labels] = (buckets, total)

    def families(self) -> Iterator[Metric]:
        for info in METRICS:
            match info.type:
                case "counter":
                    yield self._filled(CounterMetricFamily(info.name, info.help, labels=info.labels), info.name)
                case "gauge":
                    yield self._filled(GaugeMetricFamily(info.name, info.help, labels=info.labels), info.name)
                case _:
                    yield self._histogram(info)

    def _filled(self, family: _Simple, name: str) -> _Simple:
        for labels, value in self._values[name].items():
            family.add_metric(labels, value)
        return family

    def _histogram(self, info: MetricInfo) -> HistogramMetricFamily:
        family = HistogramMetricFamily(info.name, info.help, labels=info.labels)
        for labels, (buckets, total) in self._histograms[info.name].items():
            bounds = [(_bound(upper), float(buckets[upper])) for upper in sorted(buckets)]
            family.add_metric(labels, bounds, total)
        return family


class KpsCollector(Collector):
    """Turns the supervisor's snapshot into metric families.

    `describe` returns nothing on purpose: a registry that described this collector would call `collect` when it is
    registered, before the first snapshot exists.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        """Nothing, see above."""
        return []

    def collect(self) -> Iterable[Metric]:
        """One family for each of METRICS, also those without a sample."""
        now = self._snapshot()
        samples = _Samples()
        _service(samples, now)
        seen: set[str] = set()
        for child in now.children:
            # One that is on its way out may have its name in common with the one that follows it.
            if child.name not in seen:
                _child(samples, child)
            seen.add(child.name)
            _counted(samples, child.counted, child.name, printer=child.kind == "printer")
        if now.template is not None and now.template.name not in seen:
            _child(samples, now.template)
            _counted(samples, now.template.counted, now.template.name, printer=False)
        for name, counted in now.retired.items():
            _counted(samples, counted, name, printer=True)
        _printer_rows(samples, now)
        return samples.families()


def exposition(registry: CollectorRegistry, accept: str) -> tuple[str, bytes]:
    """Content type and body of a scrape, in the format that the `Accept` header asks for."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version in the header that is no number
        encode, content_type = choose_encoder("")
    return content_type, encode(registry)


def _service(samples: _Samples, now: Snapshot) -> None:
    samples.put("kps_build_info", 1, now.version, now.instance)
    samples.put("kps_tickets_new", now.queue.new)
    samples.put("kps_tickets_printing", now.queue.printing)
    samples.put("kps_oldest_queued_ticket_age_seconds", now.queue.oldest_new_age_s)
    samples.put("kps_db_up", now.database_ok)
    samples.put("kps_db_snapshot_age_seconds", now.snapshot_age_s)
    samples.put("kps_config_last_reload_successful", now.config_reload_ok)
    samples.put("kps_supervisor_loop_lag_seconds", now.loop_lag_s)
    for (here, there), count in now.failovers.items():
        samples.put("kps_printer_fallbacks_total", count, here, there)
    for counter in COUNTERS:
        if counter.of is Of.SERVICE:
            for value, _ in counter.cells:
                labels = (value,) if value else ()
                samples.put(counter.metric, now.counters.get(counter.place(value), 0), *labels)
        elif counter.of is Of.CHILD and (own := now.counters.get(f"counters.{counter.key}")) is not None:
            samples.put(counter.metric, own, SUPERVISOR)


def _child(samples: _Samples, child: ChildView) -> None:
    samples.put("kps_child_up", child.state == "up", child.name)
    for state in CHILD_STATES:
        samples.put("kps_child_state", child.state == state, child.name, state)
    if child.heartbeat_age_s is not None:
        samples.put("kps_child_heartbeat_age_seconds", child.heartbeat_age_s, child.name)
    if child.started_at is not None:
        samples.put("kps_child_start_time_seconds", child.started_at.timestamp(), child.name)
    if child.kind == "printer":
        samples.put("kps_printer_connected", child.connected, child.name)


def _counted(samples: _Samples, counted: Counted, name: str, *, printer: bool) -> None:
    for counter in COUNTERS:
        if counter.of is Of.CHILD or (counter.of is Of.PRINTER and printer):
            for value, _ in counter.cells:
                labels = (name, value) if value else (name,)
                count = counted.counters.get(counter.place(value), 0)
                samples.put(counter.metric, count, *labels)
                if counter.key in _TRIES:
                    samples.put("kps_printer_tickets_total", count, name)
    if printer and counted.print_seconds_buckets:
        samples.put_histogram(
            "kps_printer_print_seconds", counted.print_seconds_buckets, counted.print_seconds_sum, name
        )


def _printer_rows(samples: _Samples, now: Snapshot) -> None:
    rows = [printer for printer in now.printers if printer.active]
    labels: dict[str, str] = {}
    for printer, label in zip(rows, _distinct(printer.name for printer in rows), strict=True):
        # Rows of one device are one queue.
        device = labels.setdefault(printer.key, label) if printer.key else label
        samples.put("kps_tickets_queued", printer.queued, device)
        if printer.able is not None:
            samples.put("kps_printer_able", printer.able, label)


def _distinct(names: Iterable[str]) -> Iterator[str]:
    """Names that differ: two printers of different brands may both be called Kitchen."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}#{seen[name]}"


def _bound(upper: float) -> str:
    return "+Inf" if math.isinf(upper) else repr(float(upper))
