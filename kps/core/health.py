"""What the supervisor knows of the whole service (`Snapshot`), and what /health and /readyz conclude from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

STALLED_AFTER_S = 10.0
"""A supervisor whose main loop has not turned for so long is stuck."""
STALE_AFTER_S = 30.0
"""Counts from the database that are older than this say nothing about now."""
SHUTTING_DOWN = "shutting down"
UNAVAILABLE = "unavailable"
"""What those without HTTP_TOKEN read of a database that is in trouble."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the processes of one name have counted since the supervisor's start. It never falls."""

    counters: Mapping[str, int] = field(default_factory=dict)
    """Place in /status (see kps.process.counters) -> count."""
    print_seconds_buckets: dict[float, int] = field(default_factory=dict)
    """Upper bound in seconds -> tickets, cumulative; the last bound is infinity."""
    print_seconds_sum: float = 0.0
    """Seconds that all these tickets took together."""

    def plus(self, other: Counted) -> Counted:
        """Both together."""
        return self._with(other, 1)

    def minus(self, other: Counted) -> Counted:
        """What was counted since `other`."""
        return self._with(other, -1)

    def _with(self, other: Counted, sign: int) -> Counted:
        return Counted(
            _added(self.counters, other.counters, sign),
            _added(self.print_seconds_buckets, other.print_seconds_buckets, sign),
            self.print_seconds_sum + sign * other.print_seconds_sum,
        )


_Key = TypeVar("_Key")


def _added(some: Mapping[_Key, int], others: Mapping[_Key, int], sign: int) -> dict[_Key, int]:
    return dict(some) | {key: some.get(key, 0) + sign * count for key, count in others.items()}


@dataclass(frozen=True, slots=True)
class ChildView:
    """One child process as the supervisor sees it."""

    name: str
    """`dispatcher` or the printer's name."""
    kind: str
    """`dispatcher`, `printer` or `template`."""
    pid: int | None
    generation: int
    """Rises with every start of a process of this name."""
    state: str
    """`starting`, `up`, `stopping`, `dead`, `crash_loop`."""
    heartbeat_age_s: float | None
    """None = it has not beaten yet, or there is no process."""
    started_at: datetime | None
    ticket: int | None
    """What it is printing now."""
    last_exit: str
    """How its last process ended; '' before the first end."""
    refusal: str = ""
    """Why the host refuses to start it now; '' if it does not."""
    connected: bool = False
    """Whether it has a connection to its printer."""
    counted: Counted = field(default_factory=Counted)

    @property
    def restarts(self) -> int:
        """How often it was restarted, for whatever cause."""
        return sum([count for place, count in self.counted.counters.items() if place.startswith("restarts_by_cause.")])


@dataclass(frozen=True, slots=True)
class PrinterView:
    """One printer row of the POS, with what is known about its device, also if another instance serves it."""

    id: int
    name: str
    station: str
    brand_id: str
    ip: str
    port: int | None
    """None at a USB or serial port."""
    priority: int
    active: bool
    usable: bool
    """False for win32 rows and for rows without a usable address; `reason` says which."""
    reason: str
    """Why it cannot print now, in one sentence; '' if it can."""
    key: str
    """The device key; several rows may name one device."""
    owner: str
    """Name of the instance that has the device's lease; '' if none has."""
    mine: bool
    """Whether that is this instance."""
    state: str
    """`kps.printer.state`: starting, ready, held, down, silent, offline, paper_out, cover_open, error, blocked; or
    skipped where the row is not usable, else off where it is not active."""
    able: bool | None
    """Whether it can print now; None = not known yet."""
    state_since: datetime | None
    """UTC."""
    proof: str
    """The proof level in force."""
    paper: str
    """ok, low, out or unknown."""
    cover: str
    """closed, open or unknown."""
    cutter: str
    """ok, error or unknown."""
    response_ms: int | None
    """How long its last answer took; None = it did not answer."""
    checked_at: datetime | None
    queued: int
    """Tickets that wait for it. A ticket is counted at one row only; the counts are some seconds old."""
    total_prints: int = 0
    failed_prints: int = 0
    proof_lost: str = ""
    """Why its probed proof level is not in force any more."""
    may_have_printed: tuple[int, ...] = ()
    """Tickets of the last day of which an unproven copy may have come out of it, newest first."""


@dataclass(frozen=True, slots=True)
class QueueView:
    """Counts from the database."""

    new: int = 0
    printing: int = 0
    failed_today: int = 0
    """Tickets that are `failed` and were created today, store time or UTC."""
    printed_today: int = 0
    oldest_new_age_s: float = 0.0

    @property
    def open(self) -> int:
        """Tickets that are not done."""
        return self.new + self.printing


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that HTTP may show. The supervisor replaces it as a whole and never changes one."""

    version: str
    instance: str
    uptime_s: float
    tick_age_s: float
    """Seconds since the supervisor's main loop last turned; brought up to date for each request."""
    draining: bool
    """Whether the service is ending."""
    database: str
    """`connected`, or a sentence that says what is missing."""
    database_ok: bool
    snapshot_age_s: float
    """Age of the counts from the database; infinity before the first."""
    last_poll: datetime | None
    """When the dispatcher last looked for work, UTC."""
    dispatcher_ok: bool
    dispatcher_crash_loop: bool
    children: tuple[ChildView, ...]
    printers: tuple[PrinterView, ...]
    queue: QueueView
    tickets_processed: int
    """Tickets printed since this process started."""
    notices: tuple[str, ...] = ()
    """Things a person should know: wake-up trigger absent, listener deaf, unroutable station ..."""
    loop_lag_s: float = 0.0
    """How late the last turn of the supervisor's main loop was."""
    config_reload_ok: bool = True
    """Whether the printer rows could be read when they were read last."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """Place in /status (see kps.process.counters) -> count of the service as a whole; what the supervisor counts itself
    is below `counters`, as in a child."""
    held_tickets: int = 0
    """Tickets that wait because their printers are switched off in the POS, or because none can print (hold)."""
    listener_proven: bool = True
    """Whether the dispatcher hears notifications."""
    retired: Mapping[str, Counted] = field(default_factory=dict)
    """Name -> what its processes counted, for names that no child has now."""
    failovers: dict[tuple[str, str], int] = field(default_factory=dict)
    """(first printer, backup) -> tickets that went to the backup."""
    template: ChildView | None = None
    """The process that the others are copies of; it works on nothing, so it is not one of the `children`."""

    @property
    def tickets_failed(self) -> int:
        """Tickets that this instance gave up since this process started."""
        return self.counters.get("tickets.failed", 0)


class HealthStatus(StrEnum):
    """The three words of /health."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Tickets print, but something needs a person."""
    UNHEALTHY = "unhealthy"
    """The service cannot work: HTTP 503."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What /health says. `reasons` are sentences for a person, the grave ones first; empty when healthy."""

    status: HealthStatus
    reasons: tuple[str, ...]


def verdict(snapshot: Snapshot) -> Verdict:
    """Whether the service does its work, and what a person should look at."""
    grave = tuple(_what_stops_everything(snapshot))
    minor = tuple(_what_needs_a_person(snapshot))
    if grave:
        return Verdict(HealthStatus.UNHEALTHY, grave + minor)
    if minor:
        return Verdict(HealthStatus.DEGRADED, minor)
    return Verdict(HealthStatus.HEALTHY, ())


def for_everybody(snapshot: Snapshot) -> Snapshot:
    """The same without hosts, addresses, user names and causes: what may be shown without HTTP_TOKEN."""
    count = len(snapshot.notices)
    return replace(
        snapshot,
        database=snapshot.database if snapshot.database_ok else UNAVAILABLE,
        printers=tuple([_for_everybody(printer) for printer in snapshot.printers]),
        notices=(f"shown to those with HTTP_TOKEN only: {count}",) if count else (),
    )


def _for_everybody(printer: PrinterView) -> PrinterView:
    if printer.usable:
        state = printer.state if printer.active else "off"
        reason = state.replace("_", " ") if printer.reason else ""
    else:
        reason = "its row cannot be used"
    return replace(printer, ip="", port=0, key="", reason=reason)


def ready(snapshot: Snapshot) -> tuple[bool, tuple[str, ...]]:
    """Whether a ticket that is committed now would be printed; if not, why not."""
    reasons = list(_what_stops_everything(snapshot))
    if snapshot.draining:
        reasons.insert(0, SHUTTING_DOWN)
    if not any(printer.active and printer.able for printer in snapshot.printers):
        reasons.append("no printer can print now")
    return not reasons, tuple(reasons)


def alive(snapshot: Snapshot) -> bool:
    """Whether the supervisor's main loop turns. This must stay True while the database is away."""
    return snapshot.tick_age_s < STALLED_AFTER_S


def _what_stops_everything(snapshot: Snapshot) -> Iterator[str]:
    if not alive(snapshot):
        yield f"the supervisor has been stuck for {snapshot.tick_age_s:.0f} s"
    if not snapshot.database_ok:
        yield f"database: {snapshot.database}"
    elif snapshot.snapshot_age_s >= STALE_AFTER_S:
        yield "the database has not been read lately"
    if not snapshot.dispatcher_ok:
        yield "the dispatcher is not running"


def _what_needs_a_person(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.draining:
        yield SHUTTING_DOWN
    if snapshot.dispatcher_crash_loop:
        yield "the dispatcher keeps crashing"
    for child in snapshot.children:
        if child.kind == "printer" and child.state == "crash_loop":
            yield f"the process of printer {child.name} keeps crashing"
        if child.refusal:
            who = "the dispatcher" if child.kind == "dispatcher" else f"the process of printer {child.name}"
            yield f"{who} cannot be started: {child.refusal}"
    if snapshot.template is not None and snapshot.template.refusal:
        yield f"the template process cannot be started, so no other can: {snapshot.template.refusal}"
    if not snapshot.config_reload_ok:
        yield "the printer rows could not be read again: the last known ones are in use"
    if snapshot.held_tickets:
        held = snapshot.held_tickets
        yield f"{held} tickets are held until one of their printers can print or is switched on in the POS"
    yield from _what_is_wrong_with_printers(snapshot.printers)


def _what_is_wrong_with_printers(printers: tuple[PrinterView, ...]) -> Iterator[str]:
    if not any(printer.active for printer in printers):
        yield "no active printer is set up"
    for printer in printers:
        # A row that we can never reach (win32) is served by other software, unless its station has no other row.
        if printer.active and printer.usable and printer.able is False:
            yield f"printer {printer.name}: {printer.reason or printer.state}"
        elif not printer.active and printer.queued:
            yield f"tickets wait for printer {printer.name}, which is not active: {printer.queued}"
    for row in _first_rows_of_stations_out_of_reach(printers):
        yield f"station {row.station.strip()} has no printer that can be reached: {row.name}: {row.reason}"


def _first_rows_of_stations_out_of_reach(printers: tuple[PrinterView, ...]) -> list[PrinterView]:
    active = [printer for printer in printers if printer.active]
    served = {_station(printer) for printer in active if printer.usable}
    lost: dict[tuple[str, str], PrinterView] = {}
    for printer in active:
        if _station(printer) not in served:
            lost.setdefault(_station(printer), printer)
    return list(lost.values())


def _station(printer: PrinterView) -> tuple[str, str]:
    # As the POS compares station codes: trimmed, and upper and lower case alike.
    return printer.brand_id, printer.station.strip().casefold()


def uptime_formatted(seconds: float) -> str:
    """3600 -> `1h 0m 0s`. Hours may be more than 24: there are no days."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}h {minutes % 60}m {rest}s"


def success_rate(processed: int, failed: int) -> float:
    """Per cent of the finished tickets that were printed, two decimals; 100 before the first."""
    finished = processed + failed
    return round(100.0 * processed / finished, 2) if finished else 100.0
