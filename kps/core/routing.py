"""Which printer gets a ticket now. The route of a station and brand is its printer rows, in order of priority."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import assert_never

from kps.core.address import DeviceAddress
from kps.core.settings import PrinterDownPolicy
from kps.core.tickets import PrinterKey, Reason, TicketId, Token

UNOWNED_GRACE_S = 15.0
"""A printer without a live lease for longer than this cannot print; for less, an instance is about to take it over."""


class Lookup(Enum):
    """How far the lookup of a printer's host name is."""

    DONE = "done"
    PENDING = "pending"
    """It has begun a moment ago."""
    FAILED = "failed"
    """The name is not known, or no name server answers."""


@dataclass(frozen=True, slots=True)
class PrinterRow:
    """One row of the POS's printer table. Several rows may name the same physical device."""

    id: int
    station: str
    brand: str
    brand_code: str
    brand_name: str
    name: str
    address: DeviceAddress
    kind: str
    timeout_s: float
    priority: int
    active: bool
    key: PrinterKey
    """Names the physical device; '' = its address says of none that can be reached."""
    refused: str = ""
    """Why no printer may be at its address, see `kps.core.networks`; '' if one may."""
    absent: str = ""
    """Why this instance cannot open its device, which is a file on a host; '' if it can.

    An instance on another host may, so the row has its key all the same, and stays part of its route.
    """
    lookup: Lookup = Lookup.DONE
    """Until its host name has an address, the row has no device and no key; it is unable like a printer that is off."""

    @property
    def trouble(self) -> str:
        """Why its host name has no address yet; '' if it has one."""
        return "" if self.lookup is Lookup.DONE else f"its name {self.address.pos_ip} is not resolved yet"

    @property
    def fault(self) -> str:
        """Why this row can never print as it stands; '' if it can."""
        if self.kind == "win32":
            return "a win32 printer cannot be reached from here"
        return self.address.fault or self.refused


class Ability(Enum):
    """Whether a device can print now, whichever instance owns it."""

    ABLE = "able"
    UNABLE = "unable"
    UNKNOWN = "unknown"
    """Its printer process is about to find out: tickets wait for that."""


ABLE_STATES = frozenset({"ready"})
PENDING_STATES = frozenset({"starting"})
ON_HOLD_STATES = frozenset({"held"})
"""A probe has borrowed the device, and gives it back."""

_CAUSES = {
    "down": Reason.REFUSED,
    "silent": Reason.SILENT,
    "offline": Reason.OFFLINE,
    "paper_out": Reason.PAPER_OUT,
    "cover_open": Reason.COVER_OPEN,
    "error": Reason.PRINTER_ERROR,
    "blocked": Reason.BLOCKED,
}


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What the database says about one device."""

    key: PrinterKey
    state: str
    text: str
    live: bool
    """Whether an instance has its lease now."""
    lapsed_s: float
    """Seconds since the lease ended; negative or zero while it is live."""
    held_by: str = ""
    """Who has put it on hold; '' = no one."""

    @property
    def on_hold(self) -> bool:
        """Whether a person keeps it from printing for a while: a ticket without another printer waits for it."""
        return bool(self.held_by) or self.state in ON_HOLD_STATES

    def lapsed_at_most(self, seconds: float) -> DeviceState:
        """The same, if its lease was seen alive so many seconds ago: a leap of the database's clock ends no lease."""
        return replace(self, lapsed_s=min(self.lapsed_s, seconds))

    @property
    def ability(self) -> Ability:
        """Able, unable, or not known yet."""
        if self.on_hold:
            return Ability.UNABLE
        if not self.live and self.lapsed_s > UNOWNED_GRACE_S:
            return Ability.UNABLE
        if self.state in ABLE_STATES:
            return Ability.ABLE
        return Ability.UNKNOWN if self.state in PENDING_STATES else Ability.UNABLE

    @property
    def cause(self) -> str:
        """Why it cannot print: a `Reason`, or words; empty if it can, as far as is known."""
        if self.on_hold:
            return "in use"
        if not self.live and self.lapsed_s > UNOWNED_GRACE_S:
            return "not served"
        return _CAUSES.get(self.state, "")

    @property
    def sentence(self) -> str:
        """Why it cannot print, in a few words."""
        if self.held_by:
            return f"on hold by {self.held_by}"
        if not self.on_hold and not self.live and self.lapsed_s > UNOWNED_GRACE_S:
            return "no instance serves it"
        return self.text or self.state.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A `new` ticket as a look saw it."""

    id: TicketId
    token: Token
    """The token of its job; 0 = it has no job yet."""
    station: str
    brand: str
    brand_code: str
    items: int
    """How many it has now."""
    original_items: int | None
    """How many the ticket has that it is a reprint of; None if it is no reprint."""
    round_open: bool
    """Whether its round has begun: printers have been tried in it."""
    tried: frozenset[PrinterKey]
    """The printers that have been tried in this round."""
    forced_printer: str = ""
    """The key or name of the printer that was chosen for it; ignored if its route has no such printer."""
    age_s: float = 0.0
    """By the POS's clock, which may be wrong."""
    untried: bool = True
    """No decision about it is on record."""
    waited_s: float = 0.0
    """Seconds since it was noted that no printer row would do; 0 if it was not."""
    unroutable_noted: bool = False


class Written(Enum):
    """Whether the items of a ticket have been written."""

    WHOLE = "whole"
    IN_PART = "in part"
    """Some, or all, are still missing."""
    EMPTY = "empty"
    """It has none, and none are to be expected any more."""


@dataclass(frozen=True, slots=True)
class ClaimFor:
    """Print it there. `backup_for` is the name of the first printer of the route if this is another one."""

    row: PrinterRow
    backup_for: str
    backup_for_key: PrinterKey | None = None
    backup_reason: str = ""
    """Why that first printer does not print it: a `Reason`, or words; empty if that is not known."""


class WaitFor(StrEnum):
    """Why a ticket stays `new` for now."""

    ITEMS = "items"
    """Its items are still being written."""
    BUSY = "busy"
    """Its printer has no room, or belongs to another instance."""
    PENDING = "pending"
    """Whether its printer can print is not known yet."""
    HELD = "held"
    """No printer of its route can print, and the policy, or a printer on hold, keeps it from failing for that."""
    INACTIVE = "inactive"
    """Every printer row of its route is switched off."""
    GRACE = "grace"
    """Its route has no printer row that could ever print; one may be added."""


@dataclass(frozen=True, slots=True)
class EndRound:
    """Every printer of the route has been tried or cannot print. `row` is the first of the route."""

    row: PrinterRow
    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The ticket becomes `failed` at once."""

    reason: Reason
    text: str
    rescue: bool
    """Whether it may be rescued, once a printer row for it has appeared."""


Decision = ClaimFor | WaitFor | EndRound | GiveUp


def normal(station: str) -> str:
    """Station codes are compared trimmed and without case."""
    return station.strip().lower()


def covers(stations: frozenset[str], brands: frozenset[str], subject: PrinterRow | Waiting) -> bool:
    """Whether an instance limited to these stations and brands serves this row or ticket; empty sets do not limit."""
    return (not stations or subject.station in stations) and (
        not brands or subject.brand.lower() in brands or subject.brand_code in brands
    )


@dataclass(frozen=True, slots=True)
class Routes:
    """A set of printer rows, and the route of each station and brand among them: asked for each ticket of a look."""

    rows: tuple[PrinterRow, ...] = ()
    _along: Mapping[tuple[str, str], tuple[PrinterRow, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        along: dict[tuple[str, str], list[PrinterRow]] = {}
        for row in sorted(self.rows, key=lambda row: (row.priority, row.id)):
            along.setdefault((row.station, row.brand), []).append(row)
        object.__setattr__(self, "_along", {place: tuple(found) for place, found in along.items()})

    def of(self, station: str, brand: str) -> tuple[PrinterRow, ...]:
        """Every row of a station and brand, by priority then id, unusable and inactive ones too."""
        return self._along.get((station, brand), ())


@dataclass(frozen=True, slots=True)
class Crowd:
    """Waiting tickets of one station and brand, counted together."""

    station: str
    brand: str
    key: PrinterKey
    """The device that they are claimed for; '' = none yet."""
    tickets: int
    """How many."""


def queued(routes: Routes, crowds: Iterable[Crowd], devices: Mapping[PrinterKey, DeviceState]) -> dict[int, int]:
    """How many tickets wait at each printer row, by its id; each ticket waits at one row.

    A claimed ticket waits at the device that it is claimed for. Any other ticket waits where its route leads now: at
    the first row that can print, or at the first active one if none can, or at the first if none is active.
    """
    found: dict[int, int] = {}
    for crowd in crowds:
        route = [row for row in routes.of(crowd.station, crowd.brand) if not row.fault]
        rows = [row for row in route if row.key == crowd.key] or [row for row in routes.rows if row.key == crowd.key]
        if not crowd.key or not rows:
            active = [row for row in route if row.active]
            rows = [row for row in active if _ability(devices, row) is Ability.ABLE] or active or route
        if rows:
            found[rows[0].id] = found.get(rows[0].id, 0) + crowd.tickets
    return found


@dataclass(frozen=True, slots=True)
class Served:
    """Which tickets a look reads: those of these stations and brands, and those of these routes. All empty = all."""

    stations: frozenset[str] = frozenset()
    brands: frozenset[str] = frozenset()
    routes: frozenset[tuple[str, str]] = frozenset()
    """(station, brand)."""


ALL_SERVED = Served()


def is_ours(
    ticket: Waiting, routes: Routes, stations: frozenset[str], brands: frozenset[str], owned: Container[PrinterKey]
) -> bool:
    """Whether an instance looks at a ticket: it serves its station and brand, or owns a printer of its route."""
    if covers(stations, brands, ticket):
        return True
    return any(row.key in owned for row in routes.of(ticket.station, ticket.brand))


def served(routes: Routes, stations: frozenset[str], brands: frozenset[str], owned: Container[PrinterKey]) -> Served:
    """What an instance has to read so that it sees every ticket for which `is_ours` is true."""
    if not (stations or brands):
        return ALL_SERVED
    ours = frozenset([(row.station, row.brand) for row in routes.rows if row.key in owned])
    return Served(stations, brands, ours)


def decide(
    ticket: Waiting,
    rows: Sequence[PrinterRow],
    devices: Mapping[PrinterKey, DeviceState],
    free: Mapping[PrinterKey, int],
    *,
    written: Written,
    policy: PrinterDownPolicy,
    grace_s: float,
) -> Decision:
    """What happens to a ticket now.

    `rows` is the route of its station and brand (see `Routes`); `free` says for how many tickets the printers that this
    instance owns have room; a printer that is missing there belongs to another instance.
    """
    if written is Written.EMPTY:
        return GiveUp(Reason.NO_ITEMS, "no items", rescue=False)
    if written is Written.IN_PART:
        return WaitFor.ITEMS
    usable = [row for row in rows if not row.fault]
    if not usable:
        return _unroutable(ticket, rows, grace_s)
    active = [row for row in usable if row.active]
    if not active:
        return WaitFor.INACTIVE
    if ticket.forced_printer:
        active = [row for row in active if ticket.forced_printer in (row.key, row.name)] or active
    return _along(ticket, active, devices, free, policy)


def _along(
    ticket: Waiting,
    active: Sequence[PrinterRow],
    devices: Mapping[PrinterKey, DeviceState],
    free: Mapping[PrinterKey, int],
    policy: PrinterDownPolicy,
) -> Decision:
    first = active[0]
    for row in active:
        if row.key in ticket.tried:
            continue
        match _ability(devices, row):
            case Ability.ABLE:
                if free.get(row.key, 0) <= 0:
                    return WaitFor.BUSY
                return _claim_for(row, first, devices)
            case Ability.UNKNOWN:
                # The better printer may be able in a moment; a backup is used only if it is known not to be.
                return WaitFor.PENDING
            case Ability.UNABLE:
                continue
            case unexpected:
                assert_never(unexpected)
    waits = policy is PrinterDownPolicy.HOLD or any(_is_on_hold(devices, row.key) for row in active)
    if waits and not any(_ability(devices, row) is Ability.ABLE for row in active):
        return WaitFor.HELD
    return EndRound(first, Reason.NONE_ABLE, _why(active, devices, ticket.tried))


def _claim_for(row: PrinterRow, first: PrinterRow, devices: Mapping[PrinterKey, DeviceState]) -> ClaimFor:
    if row.id == first.id or row.key == first.key:
        return ClaimFor(row, "")
    if first.trouble:
        return ClaimFor(row, first.name, None, "not found by its name")
    state = devices.get(first.key)
    unknown = "not served" if first.absent else ""
    return ClaimFor(row, first.name, first.key, unknown if state is None else state.cause)


def _ability(devices: Mapping[PrinterKey, DeviceState], row: PrinterRow) -> Ability:
    if row.lookup is not Lookup.DONE:
        return Ability.UNKNOWN if row.lookup is Lookup.PENDING else Ability.UNABLE
    state = devices.get(row.key)
    if state is None:
        # No instance has ever owned this device: one that can open it is about to.
        return Ability.UNABLE if row.absent else Ability.UNKNOWN
    return state.ability


def sentence_of(row: PrinterRow, state: DeviceState | None) -> str:
    """Why a printer cannot print, or else its state, in a few words; '' if nothing is known."""
    if state is None:
        return row.absent
    if row.absent and not state.live and not state.on_hold:
        return f"no instance serves it; {row.absent}"
    return state.sentence


def _is_on_hold(devices: Mapping[PrinterKey, DeviceState], key: PrinterKey) -> bool:
    state = devices.get(key)
    return state is not None and state.on_hold


def _why(active: Sequence[PrinterRow], devices: Mapping[PrinterKey, DeviceState], tried: frozenset[PrinterKey]) -> str:
    parts = []
    for row in active:
        state = devices.get(row.key)
        if row.trouble:
            parts.append(f"{row.name}: {row.trouble}")
        elif row.key in tried:
            parts.append(f"{row.name}: tried")
        elif text := sentence_of(row, state):
            parts.append(f"{row.name}: {text}")
    return "no printer can print (" + "; ".join(parts) + ")"


def _unroutable(ticket: Waiting, rows: Sequence[PrinterRow], grace_s: float) -> Decision:
    if not ticket.unroutable_noted or ticket.waited_s < grace_s:
        return WaitFor.GRACE
    brand = (
        next((row.brand_name for row in rows if row.brand_name), "") or ticket.brand_code or ticket.brand or "unknown"
    )
    why = "; ".join(f"{row.name}: {row.fault}" for row in rows) or "none is set up"
    return GiveUp(Reason.NO_PRINTER, f"no printer for station {ticket.station}, brand {brand} ({why})", rescue=True)


def why_not(rows: Iterable[PrinterRow], devices: Mapping[PrinterKey, DeviceState]) -> dict[int, tuple[PrinterKey, str]]:
    """The active rows of a route that cannot print, by id: their device, and why in a few words.

    A printer on hold is not among them.
    """
    found = {}
    for row in rows:
        state = devices.get(row.key)
        if row.active and (row.fault or row.lookup is Lookup.FAILED):
            found[row.id] = (row.key, row.fault or row.trouble)
        elif row.active and not _is_on_hold(devices, row.key) and _ability(devices, row) is Ability.UNABLE:
            found[row.id] = (row.key, sentence_of(row, state))
    return found


def printer_for_slip(
    rows: Iterable[PrinterRow], target: PrinterKey, devices: Mapping[PrinterKey, DeviceState]
) -> PrinterRow | None:
    """Where a slip can be printed now: on `target` alone if it has one, else on the first able printer of its route."""
    for row in rows:
        if row.active and not row.fault and (not target or row.key == target):
            if _ability(devices, row) is Ability.ABLE:
                return row
            if _ability(devices, row) is Ability.UNKNOWN and not target:
                return None
    return None


def can_be_rescued(rows: Sequence[PrinterRow], devices: Mapping[PrinterKey, DeviceState]) -> bool:
    """Whether a printer of this route is able now."""
    return any(row.active and not row.fault and _ability(devices, row) is Ability.ABLE for row in rows)
