"""Snapshot -> Prometheus metrics. One collector over memory; it never asks a process or the database."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kps.core.health import ChildView, Snapshot

CHILD_STATES = ("starting", "up", "stopping", "dead", "crash_loop")
RESTART_CAUSES = ("exit", "signal", "hung", "boot_timeout", "reload")


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
    MetricInfo("kps_child_restarts_total", "counter", ("child", "reason"), "Restarts of a child process by cause."),
    MetricInfo("kps_child_heartbeat_age_seconds", "gauge", ("child",), "Age of the work loop's last heartbeat."),
    MetricInfo("kps_child_start_time_seconds", "gauge", ("child",), "When the child process started, Unix time."),
    MetricInfo("kps_printer_able", "gauge", ("printer",), "1 if the printer can print now; absent while unknown."),
    MetricInfo("kps_printer_connected", "gauge", ("printer",), "1 while the printer's connection is open."),
    MetricInfo("kps_printer_tickets_total", "counter", ("printer",), "Tries to print a ticket, good or bad."),
    MetricInfo("kps_printer_ticket_failures_total", "counter", ("printer", "reason"), "Tries that failed, by outcome."),
    MetricInfo("kps_printer_fallbacks_total", "counter", ("from", "to"), "Tickets that moved on to another printer."),
    MetricInfo("kps_printer_print_seconds", "histogram", ("printer",), "Seconds from taking a ticket to its proof."),
    MetricInfo("kps_printer_reconnects_total", "counter", ("printer",), "Connections opened after the first."),
    MetricInfo("kps_printer_sent_bytes_total", "counter", ("printer",), "Bytes sent to the printer."),
    MetricInfo("kps_tickets_printed_total", "counter", ("printer", "proof"), "Tickets printed, by level of proof."),
    MetricInfo("kps_tickets_failed_total", "counter", (), "Tickets that this instance gave up."),
    MetricInfo("kps_tickets_rescued_total", "counter", (), "Failed tickets that were printed late by themselves."),
    MetricInfo("kps_tickets_queued", "gauge", ("printer",), "Tickets waiting for the printer."),
    MetricInfo("kps_tickets_new", "gauge", (), "Tickets in status new."),
    MetricInfo("kps_tickets_printing", "gauge", (), "Tickets in status printing."),
    MetricInfo("kps_oldest_queued_ticket_age_seconds", "gauge", (), "Age of the oldest ticket in status new."),
    MetricInfo("kps_tickets_released_total", "counter", ("reason",), "Tickets taken back from a process, by cause."),
    MetricInfo(
        "kps_marked_copies_total", "counter", ("printer",), "Copies printed with a POSSIBLE DUPLICATE or MOVED mark."
    ),
    MetricInfo("kps_slips_printed_total", "counter", ("printer",), "VOID, outage and catch-up slips printed."),
    MetricInfo("kps_slips_made_total", "counter", (), "Slips made of events that stations must know of."),
    MetricInfo("kps_slips_given_up_total", "counter", (), "Slips that no printer took in time."),
    MetricInfo("kps_cleared_tickets_total", "counter", ("printer",), "Tickets that a blocked printer threw away."),
    MetricInfo("kps_late_proofs_total", "counter", ("printer",), "Copies that were given up and proven afterwards."),
    MetricInfo("kps_stray_process_ids_total", "counter", ("printer",), "Process IDs that no ticket ever had."),
    MetricInfo("kps_proof_levels_lost_total", "counter", ("printer",), "Proof levels lost by contrary evidence."),
    MetricInfo("kps_stale_tokens_total", "counter", ("child",), "Results dropped because the claim was lost."),
    MetricInfo("kps_claims_total", "counter", (), "Tickets claimed."),
    MetricInfo("kps_rounds_ended_total", "counter", (), "Rounds over a route in which no printer printed."),
    MetricInfo("kps_poll_found_work_total", "counter", (), "Tickets found by polling: missed notifications."),
    MetricInfo("kps_listener_reconnects_total", "counter", (), "Reconnects of the notification listener."),
    MetricInfo("kps_db_up", "gauge", (), "1 while the database answers and has what we need."),
    MetricInfo("kps_db_snapshot_age_seconds", "gauge", (), "Age of the counts from the database."),
    MetricInfo("kps_db_errors_total", "counter", ("child",), "Database errors of a child process."),
    MetricInfo("kps_config_last_reload_successful", "gauge", (), "1 if the printer rows could be read again."),
    MetricInfo("kps_supervisor_loop_lag_seconds", "gauge", (), "How late the supervisor's last round was."),
    MetricInfo("kps_log_records_dropped_total", "counter", ("child",), "Log lines dropped so as not to block."),
)
"""All metrics in the order of /metrics: an interface, listed in the README."""

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
        _dispatcher(samples, now)
        for child, label in zip(now.children, _distinct(child.name for child in now.children), strict=True):
            _child(samples, child, label)
            if child.kind == "printer":
                _printer_process(samples, child, label)
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
    samples.put("kps_tickets_failed_total", now.tickets_failed)
    samples.put("kps_tickets_new", now.queue.new)
    samples.put("kps_tickets_printing", now.queue.printing)
    samples.put("kps_oldest_queued_ticket_age_seconds", now.queue.oldest_new_age_s)
    samples.put("kps_db_up", now.database_ok)
    samples.put("kps_db_snapshot_age_seconds", now.snapshot_age_s)
    samples.put("kps_config_last_reload_successful", now.config_reload_ok)
    samples.put("kps_supervisor_loop_lag_seconds", now.loop_lag_s)
    for reason, count in now.released.items():
        samples.put("kps_tickets_released_total", count, reason)
    for (here, there), count in now.failovers.items():
        samples.put("kps_printer_fallbacks_total", count, here, there)


def _dispatcher(samples: _Samples, now: Snapshot) -> None:
    for name, counter in (
        ("kps_claims_total", "claims"),
        ("kps_rounds_ended_total", "rounds_ended"),
        ("kps_tickets_rescued_total", "rescued"),
        ("kps_slips_made_total", "slips_made"),
        ("kps_slips_given_up_total", "slips_given_up"),
        ("kps_poll_found_work_total", "poll_found_work"),
        ("kps_listener_reconnects_total", "listener_reconnects"),
    ):
        samples.put(name, now.counters.get(counter, 0.0))
    if "log_records_dropped" in now.counters:
        samples.put("kps_log_records_dropped_total", now.counters["log_records_dropped"], "supervisor")


def _child(samples: _Samples, child: ChildView, label: str) -> None:
    samples.put("kps_child_up", child.state == "up", label)
    for state in CHILD_STATES:
        samples.put("kps_child_state", child.state == state, label, state)
    for cause in RESTART_CAUSES:
        samples.put("kps_child_restarts_total", child.restarts.get(cause, 0), label, cause)
    if child.heartbeat_age_s is not None:
        samples.put("kps_child_heartbeat_age_seconds", child.heartbeat_age_s, label)
    if child.started_at is not None:
        samples.put("kps_child_start_time_seconds", child.started_at.timestamp(), label)
    samples.put("kps_stale_tokens_total", child.stale_tokens, label)
    samples.put("kps_db_errors_total", child.database_errors, label)
    samples.put("kps_log_records_dropped_total", child.log_records_dropped, label)


def _printer_process(samples: _Samples, child: ChildView, label: str) -> None:
    samples.put("kps_printer_connected", child.connected, label)
    samples.put("kps_printer_tickets_total", sum(child.printed.values()) + sum(child.failed_tries.values()), label)
    samples.put("kps_printer_reconnects_total", child.reconnects, label)
    samples.put("kps_printer_sent_bytes_total", child.bytes_sent, label)
    samples.put("kps_marked_copies_total", child.marked_copies, label)
    samples.put("kps_slips_printed_total", child.slips, label)
    samples.put("kps_cleared_tickets_total", child.cleared, label)
    samples.put("kps_late_proofs_total", child.late_proofs, label)
    samples.put("kps_stray_process_ids_total", child.stray_ids, label)
    samples.put("kps_proof_levels_lost_total", child.demotions, label)
    for proof, count in child.printed.items():
        samples.put("kps_tickets_printed_total", count, label, proof)
    for outcome, count in child.failed_tries.items():
        samples.put("kps_printer_ticket_failures_total", count, label, outcome)
    if child.print_seconds_buckets:
        samples.put_histogram("kps_printer_print_seconds", child.print_seconds_buckets, child.print_seconds_sum, label)


def _printer_rows(samples: _Samples, now: Snapshot) -> None:
    rows = [printer for printer in now.printers if printer.active]
    for printer, label in zip(rows, _distinct(printer.name for printer in rows), strict=True):
        samples.put("kps_tickets_queued", printer.queued, label)
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
