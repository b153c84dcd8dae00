"""What is counted: one declaration each, which the snapshot, /status, /metrics and the README's table follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from kps.core.health import Counted
from kps.core.restart import Cause
from kps.core.tickets import ProofLevel
from kps.process.shared_stats import PRINTED_CELL, Cell, Cells, print_buckets


class Of(StrEnum):
    """What a series is of; the value is its first label in /metrics."""

    PRINTER = "printer"
    """One series for each printer process."""
    CHILD = "child"
    """One for each child; what the supervisor counts itself under the same key of `counters` is exported with them."""
    SERVICE = ""
    """One for all children together."""


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter, and the cells that count for it, by the value of its further label.

    `key` is where it stands in /status: in each process, and for `Of.SERVICE` from the top. A further label's values
    stand one level below. A cell of None is counted by the supervisor.
    """

    metric: str
    help: str
    of: Of
    key: str
    cells: tuple[tuple[str, Cell | None], ...]
    label: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of its series in /metrics."""
        return tuple(label for label in (self.of.value, self.label) if label)

    def place(self, value: str) -> str:
        """The path in /status, with dots, of what counts under this value of the further label."""
        return f"{self.key}.{value}" if value else self.key


def _counter(metric: str, words: str, of: Of, key: str, cell: Cell) -> Counter:
    return Counter(metric, words, of, key, (("", cell),))


COUNTERS: tuple[Counter, ...] = (
    Counter(
        "kps_child_restarts_total",
        "Restarts of a child process by cause.",
        Of.CHILD,
        "restarts_by_cause",
        tuple((cause.value, None) for cause in Cause),
        label="reason",
    ),
    Counter(
        "kps_tickets_printed_total",
        "Tickets printed, by level of proof.",
        Of.PRINTER,
        "printed",
        tuple((level.value, PRINTED_CELL[level]) for level in ProofLevel),
        label="proof",
    ),
    Counter(
        "kps_printer_ticket_failures_total",
        "Tries that failed, by outcome.",
        Of.PRINTER,
        "failed_tries",
        (
            ("not_printed", Cell.NOT_PRINTED),
            ("uncertain", Cell.UNCERTAIN),
            ("unprintable", Cell.UNPRINTABLE),
        ),
        label="reason",
    ),
    _counter(
        "kps_printer_reconnects_total", "Connections opened after the first.", Of.PRINTER, "reconnects", Cell.RECONNECTS
    ),
    _counter("kps_printer_sent_bytes_total", "Bytes sent to the printer.", Of.PRINTER, "bytes_sent", Cell.BYTES),
    _counter(
        "kps_marked_copies_total",
        "Copies printed with a POSSIBLE DUPLICATE or MOVED mark.",
        Of.PRINTER,
        "marked_copies",
        Cell.MARKED,
    ),
    _counter(
        "kps_slips_printed_total", "VOID, outage and catch-up slips printed.", Of.PRINTER, "slips", Cell.SLIPS_PRINTED
    ),
    _counter(
        "kps_cleared_tickets_total", "Tickets that a blocked printer threw away.", Of.PRINTER, "cleared", Cell.CLEARED
    ),
    _counter(
        "kps_late_proofs_total",
        "Copies that were given up and proven afterwards.",
        Of.PRINTER,
        "late_proofs",
        Cell.LATE_PROOFS,
    ),
    _counter(
        "kps_stray_process_ids_total", "Process IDs that no ticket ever had.", Of.PRINTER, "stray_ids", Cell.STRAY_IDS
    ),
    _counter(
        "kps_proof_levels_lost_total",
        "Proof levels lost by contrary evidence.",
        Of.PRINTER,
        "demotions",
        Cell.DEMOTED,
    ),
    _counter(
        "kps_stale_tokens_total",
        "Results dropped because the claim was lost.",
        Of.CHILD,
        "stale_tokens",
        Cell.STALE_TOKENS,
    ),
    _counter(
        "kps_db_errors_total",
        "Database errors of a child process, or of the supervisor.",
        Of.CHILD,
        "database_errors",
        Cell.DATABASE_ERRORS,
    ),
    _counter(
        "kps_log_records_dropped_total",
        "Log lines dropped so as not to block.",
        Of.CHILD,
        "log_records_dropped",
        Cell.LOG_DROPPED,
    ),
    _counter(
        "kps_tickets_failed_total", "Tickets that this instance gave up.", Of.SERVICE, "tickets.failed", Cell.FAILED
    ),
    Counter(
        "kps_tickets_released_total",
        "Tickets taken back from a process, by cause.",
        Of.SERVICE,
        "released",
        (("death", None), ("reclaim", None), ("reconcile", Cell.RECONCILED), ("returned", Cell.RELEASED)),
        label="reason",
    ),
    _counter("kps_claims_total", "Tickets claimed.", Of.SERVICE, "counters.claims", Cell.CLAIMED),
    _counter(
        "kps_rounds_ended_total",
        "Rounds over a route in which no printer printed.",
        Of.SERVICE,
        "counters.rounds_ended",
        Cell.ROUNDS_ENDED,
    ),
    _counter(
        "kps_tickets_rescued_total",
        "Failed tickets that were printed late by themselves.",
        Of.SERVICE,
        "counters.rescued",
        Cell.RESCUED,
    ),
    _counter(
        "kps_poll_found_work_total",
        "Tickets found by polling: missed notifications.",
        Of.SERVICE,
        "counters.poll_found_work",
        Cell.POLL_FOUND_WORK,
    ),
    _counter(
        "kps_listener_reconnects_total",
        "Reconnects of the notification listener.",
        Of.SERVICE,
        "counters.listener_reconnects",
        Cell.LISTENER_RECONNECTS,
    ),
    _counter(
        "kps_slips_made_total",
        "Slips made of events that stations must know of.",
        Of.SERVICE,
        "counters.slips_made",
        Cell.SLIPS_MADE,
    ),
    _counter(
        "kps_slips_given_up_total",
        "Slips that no printer took in time.",
        Of.SERVICE,
        "counters.slips_given_up",
        Cell.SLIPS_GIVEN_UP,
    ),
)
"""Everything that is counted by children or for them, but for the print times."""

_OF_PROCESSES = tuple(
    (counter.place(value), cell)
    for counter in COUNTERS
    if counter.of is not Of.SERVICE
    for value, cell in counter.cells
    if cell is not None
)
_OF_SERVICE = tuple(
    (counter.place(value), cell)
    for counter in COUNTERS
    if counter.of is Of.SERVICE
    for value, cell in counter.cells
    if cell is not None
)


def counted_in(cells: Cells, restarts: Mapping[str, int]) -> Counted:
    """What one child has counted, and how often it was restarted, by cause."""
    counters = {f"restarts_by_cause.{cause.value}": restarts.get(cause.value, 0) for cause in Cause}
    counters |= {place: int(cells[cell]) for place, cell in _OF_PROCESSES}
    return Counted(counters, print_buckets(cells), cells[Cell.PRINT_SECONDS])


def counted_by_all(stats: Iterable[Cells]) -> dict[str, int]:
    """What all children have counted together, by its place in /status; without what the supervisor counts."""
    everybody = list(stats)
    return {place: sum([int(cells[cell]) for cells in everybody]) for place, cell in _OF_SERVICE}
