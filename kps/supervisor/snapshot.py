"""What the supervisor knows -> the snapshot that the HTTP side shows. Reads memory only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import kps
from kps.core.clock import direction
from kps.core.health import ChildView, Counted, PrinterView, Snapshot
from kps.core.printer_lifecycle import Process
from kps.core.restart import Cause
from kps.core.routing import Ability, DeviceState, Lookup, PrinterRow, Routes, queued, sentence_of
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey, ProofLevel
from kps.database.statements.leases import Device
from kps.printer.config import DeviceConfig
from kps.process.counters import counted_by_all
from kps.process.shared_stats import PRINTED_CELL, Cell
from kps.supervisor.children import Child
from kps.supervisor.devices import vouched_for_none
from kps.supervisor.maintenance import Maintenance
from kps.supervisor.tallies import Tallies
from kps.supervisor.template import Template

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
    maintenance: Maintenance
    dispatcher: Child
    printers: dict[PrinterKey, tuple[DeviceConfig, Child]]
    retired: list[Child]
    tallies: Tallies
    rows: tuple[PrinterRow, ...]
    released: dict[str, int]
    failovers: dict[tuple[str, str], int]
    log_dropped: int
    undrawable: tuple[str, ...] = ()
    """Writings that no font on this host has."""
    too_low: tuple[str, ...] = ()
    """Limits of the host that are too low for our printers, a sentence each."""
    template: Template | None = None


def build(facts: Facts) -> Snapshot:
    """One consistent picture; ages count from now."""
    maintenance, dispatcher = facts.maintenance, facts.dispatcher
    children = [dispatcher, *(child for _, child in facts.printers.values())]
    everybody = [*children, *facts.retired]
    printed = sum(int(child.stats[cell]) for child in everybody for cell in PRINTED_CELL.values())
    last_poll = dispatcher.stats[Cell.LAST_POLL]
    trouble = maintenance.trouble or _trouble_of_children(facts, children)
    beat_age = facts.now - dispatcher.stats[Cell.BEAT]
    return Snapshot(
        version=kps.__version__,
        instance=facts.settings.instance_name,
        uptime_s=facts.now - facts.started,
        tick_age_s=facts.now - facts.tick,
        draining=facts.draining,
        database=trouble or "connected",
        database_ok=not trouble,
        snapshot_age_s=facts.now - maintenance.counting.at,
        last_poll=datetime.fromtimestamp(last_poll, UTC) if last_poll else None,
        dispatcher_ok=dispatcher.state is Process.UP and beat_age < DISPATCHER_BEAT_LIMIT_S,
        dispatcher_crash_loop=dispatcher.deaths.crash_loop(facts.now),
        # A tuple made of a generator would leave memory behind each time, see kps.database.connection.
        children=tuple(_children(children, facts)),
        printers=tuple(_printers(facts)),
        queue=maintenance.counting.counts,
        tickets_processed=printed,
        notices=tuple(_notices(facts)),
        loop_lag_s=facts.lag_s,
        counters=_counters(facts, everybody),
        held_tickets=int(dispatcher.stats[Cell.HELD_TICKETS]),
        listener_proven=bool(dispatcher.stats[Cell.LISTENER_PROVEN]),
        retired={
            name.removeprefix("printer-"): counted
            for name, counted in facts.tallies.of_others({child.name for child in children}).items()
        },
        failovers=facts.failovers,
        config_reload_ok=maintenance.rows.readable,
        template=_template(facts.template) if facts.template is not None else None,
    )


def _trouble_of_children(facts: Facts, children: list[Child]) -> str:
    """A database that the supervisor can work with, and a child cannot: rights taken away, for one."""
    for child in children:
        since = child.stats[Cell.DATABASE_TROUBLE_SINCE]
        if child.running and since and facts.now - since > CHILD_TROUBLE_S:
            return f"{child.name} cannot do its work in the database: its log says why"
    return ""


def _children(children: list[Child], facts: Facts) -> list[ChildView]:
    views = []
    seen: set[str] = set()
    for child in children:
        views.append(_child(child, facts, first=child.name not in seen))
        seen.add(child.name)
    return views


def _child(child: Child, facts: Facts, *, first: bool) -> ChildView:
    cells, now = child.stats, facts.now
    looping = child.deaths.crash_loop(now) and child.state is not Process.UP
    return ChildView(
        name=child.name.removeprefix("printer-"),
        kind=child.kind,
        pid=child.pid,
        generation=child.generation,
        state="crash_loop" if looping else _child_state(child),
        heartbeat_age_s=now - cells[Cell.BEAT] if child.running and cells[Cell.BEAT] else None,
        started_at=child.started_at,
        ticket=int(cells[Cell.TICKET]) or None,
        last_exit=child.last_exit,
        refusal=child.refusal,
        connected=bool(cells[Cell.CONNECTED]),
        counted=facts.tallies.of(child, first=first),
    )


def _template(template: Template) -> ChildView:
    counted = {f"restarts_by_cause.{cause.value}": template.restarts.get(cause.value, 0) for cause in Cause}
    return ChildView(
        name="template",
        kind="template",
        pid=template.pid,
        generation=template.generation,
        state=template.state,
        heartbeat_age_s=None,
        started_at=template.started_at,
        ticket=None,
        last_exit=template.last_exit,
        refusal=template.refusal,
        counted=Counted(counted),
    )


def _child_state(child: Child) -> str:
    state = child.state
    if state is Process.WAITING:
        state = Process.STARTING if child.unstarted else Process.DEAD
    return str(state.value)


def _printers(facts: Facts) -> list[PrinterView]:
    known = {row.printer_key: row for row in facts.maintenance.devices}
    waiting = _waiting(facts, known)
    return [_printer(row, known.get(row.key), waiting.get(row.id, 0), facts) for row in facts.rows]


def _waiting(facts: Facts, known: dict[PrinterKey, Device]) -> dict[int, int]:
    """Tickets that wait, by row id, as maintenance has counted them last."""
    if not facts.maintenance.counting.waiting:
        return {}
    states = {key: state for key, row in known.items() if (state := _state(row)) is not None}
    return queued(Routes(facts.rows), facts.maintenance.counting.waiting, states)


def _printer(row: PrinterRow, device: Device | None, waiting: int, facts: Facts) -> PrinterView:
    state = _state(device) if not row.trouble else _without_device(row)
    if state is None and row.absent:
        state = DeviceState(row.key, "down", row.absent, live=True, lapsed_s=0.0)
    usable = not row.fault and row.active
    able = _able(state) if usable else False
    if row.fault:
        reason = row.fault
    elif not row.active:
        reason = "switched off in the POS"
    elif able or state is None:
        reason = ""
    else:
        reason = sentence_of(row, state)
    total, failed = facts.maintenance.rows.totals.get(row.id, (0, 0))
    held = facts.printers.get(row.key)
    return PrinterView(
        id=row.id,
        name=row.name,
        station=row.station,
        brand_id=row.brand,
        ip=row.address.pos_ip,
        port=row.address.pos_port,
        priority=row.priority,
        active=row.active,
        usable=not row.fault,
        reason=reason,
        key=row.key,
        owner=device.owner_name if device is not None and device.live else "",
        mine=device is not None and device.live and device.owner == facts.owner,
        state=_state_word(row, state),
        able=able,
        state_since=device.state_since if device is not None else None,
        proof=_level(device, held[1] if held is not None else None),
        paper=device.paper if device is not None else "unknown",
        cover=_word(device.cover_open if device is not None else None, "open", "closed"),
        cutter=_word(device.cutter_ok if device is not None else None, "ok", "error"),
        response_ms=device.response_ms if device is not None else None,
        checked_at=device.checked_at if device is not None else None,
        queued=waiting,
        total_prints=total,
        failed_prints=failed,
        proof_lost=device.demoted_text if device is not None else "",
        may_have_printed=_may_have_printed(row, facts),
    )


def _state_word(row: PrinterRow, state: DeviceState | None) -> str:
    """A row that nothing is asked of has a word of its own, whatever is known of a device at its address."""
    if row.fault:
        return "skipped"
    if not row.active:
        return "off"
    return state.state if state is not None else "starting"


def _level(device: Device | None, child: Child | None) -> str:
    """The proof level that its process uses, else what is stored."""
    if child is not None and (rung := int(child.stats[Cell.PROOF_LEVEL])):
        return list(ProofLevel)[rung - 1].value
    return device.proof if device is not None else ProofLevel.NONE.value


def _word(known: bool | None, yes: str, no: str) -> str:
    return "unknown" if known is None else yes if known else no


def _may_have_printed(row: PrinterRow, facts: Facts) -> tuple[int, ...]:
    return tuple(ticket for ticket, keys in facts.maintenance.counting.unproven if row.key and row.key in keys)


def _state(device: Device | None) -> DeviceState | None:
    if device is None:
        return None
    return DeviceState(
        device.printer_key,
        device.state,
        device.state_text,
        device.live,
        device.lapsed_s,
        device.held_by or "",
    )


def _without_device(row: PrinterRow) -> DeviceState:
    """A row whose name has no address yet is shown like one whose printer is off."""
    state = "down" if row.lookup is Lookup.FAILED else "starting"
    return DeviceState(row.key, state, row.trouble, live=True, lapsed_s=0.0)


def _able(state: DeviceState | None) -> bool | None:
    if state is None or state.ability is Ability.UNKNOWN:
        return None
    return state.ability is Ability.ABLE


def _counters(facts: Facts, everybody: list[Child]) -> dict[str, int]:
    counters = dict.fromkeys(("released.death", "released.reclaim"), 0)
    counters |= {f"released.{cause}": count for cause, count in facts.released.items()}
    counters |= counted_by_all([child.stats for child in everybody])
    counters["counters.database_errors"] = facts.maintenance.errors
    counters["counters.log_records_dropped"] = facts.log_dropped
    return counters


def _notices(facts: Facts) -> list[str]:
    notices = []
    if facts.maintenance.trigger_missing:
        notices.append(facts.maintenance.trigger_missing)
    dispatcher = facts.dispatcher
    if dispatcher.state is Process.UP and not dispatcher.stats[Cell.LISTENER_PROVEN]:
        notices.append("not listening for wake-ups: tickets are found by polling")
    if pos_s := facts.maintenance.counting.pos_behind_s:
        notices.append(
            f"the clock of the POS is {direction(pos_s)} the database's, and tickets are counted without that"
        )
    if host_s := facts.maintenance.counting.host_behind_s:
        notices.append(f"the clock of this host is {direction(host_s)} the database's, and so are its logs")
    if unroutable := int(dispatcher.stats[Cell.UNROUTABLE]):
        notices.append(f"{unroutable} tickets wait for a printer row of their station and brand")
    if unstarted := sum([child.unstarted for _, child in facts.printers.values()]):
        notices.append(f"{unstarted} printers wait for their first start")
    notices += [f"printer row {row.name} is skipped: {row.fault}" for row in facts.rows if row.fault]
    if facts.rows:
        unknown = vouched_for_none(facts.rows, facts.settings)
        notices += [f"PROOF_LEVELS names {name}, and no printer is called so" for name in unknown]
    if facts.undrawable:
        notices.append(f"no font here draws {', '.join(facts.undrawable)}: it comes out as [U+XXXX]")
    return [*notices, *facts.too_low]
