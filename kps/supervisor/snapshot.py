"""What the supervisor knows -> the snapshot that the HTTP side shows. Reads memory only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import kps
from kps.core.health import ChildView, PrinterView, Snapshot
from kps.core.routing import Ability, DeviceState, PrinterRow
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey, ProofLevel
from kps.database.connection import Row
from kps.printer.config import DeviceConfig
from kps.process.slots import COUNTERS, PRINTED_CELL, Cell, print_buckets
from kps.supervisor.children import Child, State
from kps.supervisor.clerk import Clerk
from kps.supervisor.devices import vouched_for_none

DISPATCHER_BEAT_LIMIT_S = 10.0
CHILD_TROUBLE_S = 3.0
"""Shorter trouble is a blip: the child reconnects by itself."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a snapshot is made of."""

    settings: Settings
    owner: str
    started: float
    now: float
    wall: float
    tick: float
    lag_s: float
    draining: bool
    clerk: Clerk
    dispatcher: Child
    printers: dict[PrinterKey, tuple[DeviceConfig, Child]]
    retired: list[Child]
    rows: tuple[PrinterRow, ...]
    released: dict[str, int]
    failovers: dict[tuple[str, str], int]
    log_dropped: int


def build(facts: Facts) -> Snapshot:
    """One consistent picture; ages count from now."""
    clerk, dispatcher = facts.clerk, facts.dispatcher
    printers = [child for _, child in facts.printers.values()] + facts.retired
    printed = sum(int(child.cells[cell]) for child in printers for cell in PRINTED_CELL.values())
    failed = sum(int(child.cells[Cell.FAILED]) for child in [dispatcher, *printers])
    last_poll = dispatcher.cells[Cell.LAST_POLL]
    trouble = clerk.trouble or _trouble_of_children(facts, printers)
    beat_age = facts.now - dispatcher.cells[Cell.BEAT]
    return Snapshot(
        version=kps.__version__,
        instance=facts.settings.instance_name,
        uptime_s=facts.now - facts.started,
        tick_age_s=facts.now - facts.tick,
        draining=facts.draining,
        database=trouble or "connected",
        database_ok=not trouble,
        snapshot_age_s=facts.now - clerk.counts_at,
        last_poll=datetime.fromtimestamp(last_poll, UTC) if last_poll else None,
        dispatcher_ok=dispatcher.state is State.UP and beat_age < DISPATCHER_BEAT_LIMIT_S,
        dispatcher_crash_loop=dispatcher.deaths.crash_loop(facts.now),
        # A tuple made of a generator would leave memory behind each time, see kps.database.connection.
        children=tuple([_child(child, facts.now) for child in [dispatcher, *printers]]),
        printers=tuple(_printers(facts)),
        queue=clerk.counts,
        tickets_processed=printed,
        tickets_failed=failed,
        notices=tuple(_notices(facts)),
        loop_lag_s=facts.lag_s,
        counters=_counters(dispatcher, facts),
        released=facts.released
        | {
            "reconcile": int(dispatcher.cells[Cell.RECONCILED]),
            "returned": sum(int(child.cells[Cell.RELEASED]) for child in printers),
        },
        failovers=facts.failovers,
        config_reload_ok=clerk.rows_read,
    )


def _trouble_of_children(facts: Facts, printers: list[Child]) -> str:
    """A database that the supervisor can work with, and a child cannot: rights taken away, for one."""
    for child in [facts.dispatcher, *printers]:
        since = child.cells[Cell.DATABASE_TROUBLE_SINCE]
        if child.running and since and facts.now - since > CHILD_TROUBLE_S:
            return f"{child.name} cannot do its work in the database: its log says why"
    return ""


def _child(child: Child, now: float) -> ChildView:
    cells = child.cells
    looping = child.deaths.crash_loop(now) and child.state is not State.UP
    return ChildView(
        name=child.name.removeprefix("printer-"),
        kind=child.kind,
        pid=child.pid,
        generation=child.generation,
        state="crash_loop" if looping else {State.WAITING: "dead"}.get(child.state, child.state.value),
        restarts=dict(child.restarts),
        heartbeat_age_s=now - cells[Cell.BEAT] if child.running and cells[Cell.BEAT] else None,
        started_at=child.started_at,
        ticket=int(cells[Cell.TICKET]) or None,
        last_exit=child.last_exit,
        connected=bool(cells[Cell.CONNECTED]),
        printed={level.value: int(cells[cell]) for level, cell in PRINTED_CELL.items()},
        failed_tries={
            "not_printed": int(cells[Cell.NOT_PRINTED]),
            "uncertain": int(cells[Cell.UNCERTAIN]),
            "unprintable": int(cells[Cell.UNPRINTABLE]),
        },
        bytes_sent=int(cells[Cell.BYTES]),
        reconnects=int(cells[Cell.RECONNECTS]),
        database_errors=int(cells[Cell.DATABASE_ERRORS]),
        log_records_dropped=int(cells[Cell.LOG_DROPPED]),
        marked_copies=int(cells[Cell.MARKED]),
        stale_tokens=int(cells[Cell.STALE_TOKENS]),
        cleared=int(cells[Cell.CLEARED]),
        slips=int(cells[Cell.SLIPS_PRINTED]),
        late_proofs=int(cells[Cell.LATE_PROOFS]),
        stray_ids=int(cells[Cell.STRAY_IDS]),
        demotions=int(cells[Cell.DEMOTED]),
        print_seconds_buckets=print_buckets(cells),
        print_seconds_sum=cells[Cell.PRINT_SECONDS],
    )


def _printers(facts: Facts) -> list[PrinterView]:
    known = {PrinterKey(row.printer_key): row for row in facts.clerk.devices}
    return [_printer(row, known.get(row.key), facts) for row in facts.rows]


def _printer(row: PrinterRow, device: Row | None, facts: Facts) -> PrinterView:
    state = _state(device)
    usable = not row.fault and row.active
    able = _able(state) if usable else False
    if row.fault:
        reason = row.fault
    elif not row.active:
        reason = "switched off in the POS"
    elif able or state is None:
        reason = ""
    else:
        reason = state.sentence
    total, failed = facts.clerk.totals.get(row.id, (0, 0))
    held = facts.printers.get(row.key)
    return PrinterView(
        id=row.id,
        name=row.name,
        station=row.station,
        brand_id=row.brand,
        ip=row.host,
        port=row.port,
        priority=row.priority,
        active=row.active,
        usable=not row.fault,
        reason=reason,
        key=row.key,
        owner=device.owner_name if device is not None and device.live else "",
        mine=device is not None and device.live and device.owner == facts.owner,
        state=state.state if state is not None else "starting",
        able=able,
        state_since=device.state_since if device is not None else None,
        proof=_level(device, held[1] if held is not None else None),
        paper=device.paper if device is not None else "unknown",
        cover=_word(device.cover_open if device is not None else None, "open", "closed"),
        cutter=_word(device.cutter_ok if device is not None else None, "ok", "error"),
        response_ms=device.response_ms if device is not None else None,
        checked_at=device.checked_at if device is not None else None,
        queued=int(held[1].cells[Cell.HELD]) if held is not None else 0,
        total_prints=total,
        failed_prints=failed,
        proof_lost=device.demoted_text if device is not None else "",
        may_have_printed=_may_have_printed(row, facts),
    )


def _level(device: Row | None, child: Child | None) -> str:
    """The proof level that its process uses, else what is stored."""
    if child is not None and (rung := int(child.cells[Cell.RUNG])):
        return list(ProofLevel)[rung - 1].value
    return str(device.proof) if device is not None else ProofLevel.NONE.value


def _word(known: bool | None, yes: str, no: str) -> str:
    return "unknown" if known is None else yes if known else no


def _may_have_printed(row: PrinterRow, facts: Facts) -> tuple[int, ...]:
    return tuple(ticket for ticket, keys in facts.clerk.unproven if row.key in keys)


def _state(device: Row | None) -> DeviceState | None:
    if device is None:
        return None
    return DeviceState(
        PrinterKey(device.printer_key),
        device.state,
        device.state_text,
        device.live,
        device.lapsed_s,
        device.held_by or "",
    )


def _able(state: DeviceState | None) -> bool | None:
    if state is None or state.ability is Ability.UNKNOWN:
        return None
    return state.ability is Ability.ABLE


def _counters(dispatcher: Child, facts: Facts) -> dict[str, float]:
    cells = dispatcher.cells
    counters = {cell.name.lower(): cells[cell] for cell in COUNTERS if Cell.CLAIMED <= cell <= Cell.RECONCILED}
    counters["claims"] = counters.pop("claimed")
    counters["slips_made"] = cells[Cell.SLIPS_MADE]
    counters["slips_given_up"] = cells[Cell.SLIPS_GIVEN_UP]
    counters["held_tickets"] = cells[Cell.HELD_TICKETS]
    counters["log_records_dropped"] = facts.log_dropped
    counters["listener_proven"] = cells[Cell.LISTENER_PROVEN]
    counters["database_errors"] = facts.clerk.errors
    return counters


def _notices(facts: Facts) -> list[str]:
    notices = []
    if facts.clerk.trigger_missing:
        notices.append(facts.clerk.trigger_missing)
    dispatcher = facts.dispatcher
    if dispatcher.state is State.UP and not dispatcher.cells[Cell.LISTENER_PROVEN]:
        notices.append("not listening for wake-ups: tickets are found by polling")
    if unroutable := int(dispatcher.cells[Cell.UNROUTABLE]):
        notices.append(f"{unroutable} tickets wait for a printer row of their station and brand")
    notices += [f"printer row {row.name} is skipped: {row.fault}" for row in facts.rows if row.fault]
    if facts.rows:
        unknown = vouched_for_none(facts.rows, facts.settings)
        notices += [f"PROOF_LEVELS names {name}, and no printer is called so" for name in unknown]
    return notices
