"""Tickets and what becomes of them: the values that all parts of the service share."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import NewType

TicketId = NewType("TicketId", int)
"""A ticket's number in the POS; their order is the order in which tickets are printed."""
Token = NewType("Token", int)
"""A fencing token: new at every claim, from a database sequence that is never reset."""
PrinterKey = NewType("PrinterKey", str)
"""`SITE:ip:port` of a physical device; several printer rows may share it."""


class ProofLevel(StrEnum):
    """The best proof of print that a device can give, best first."""

    PROCESS_ID = "process_id"
    FENCE = "fence"
    REALTIME = "realtime"
    NONE = "none"

    @property
    def proves_paper(self) -> bool:
        """Whether a ticket closed at this level is proven, and not merely sent."""
        return self in (ProofLevel.PROCESS_ID, ProofLevel.FENCE)


class Reason(StrEnum):
    """Why a ticket was not printed, in fixed words: the log rows' `error_code`."""

    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNRESOLVABLE = "unresolvable"
    SILENT = "silent"
    CONNECTION_LOST = "connection_lost"
    OFFLINE = "offline"
    PAPER_OUT = "paper_out"
    COVER_OPEN = "cover_open"
    CUTTER_ERROR = "cutter_error"
    PRINTER_ERROR = "printer_error"
    BLOCKED = "blocked"
    TALKATIVE = "talkative"
    HOST_FULL = "host_full"
    UNPROVEN = "unproven"
    LEASE_LOST = "lease_lost"
    NO_ITEMS = "no_items"
    UNRENDERABLE = "unrenderable"
    POISON = "poison"
    NO_PRINTER = "no_printer"
    NONE_ABLE = "none_able"
    STALE = "stale"
    RECLAIMED = "reclaimed"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Printed:
    """The proof of this level arrived for the ticket; below `fence` it only means: sent whole, no contrary sign."""

    level: ProofLevel
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class NotPrinted:
    """Not one byte of the ticket left us: the next printer may print it without a mark."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Uncertain:
    """At least one byte left us and no proof came: every further copy is marked."""

    reason: Reason
    text: str
    sent_bytes: int
    sent_whole: bool
    cleared: bool = False
    """The printer said that it threw the ticket away: at most a torn strip of it came out."""


@dataclass(frozen=True, slots=True)
class Unprintable:
    """The ticket itself cannot be printed, on any printer; no byte left us."""

    reason: Reason
    text: str


Outcome = Printed | NotPrinted | Uncertain | Unprintable


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a ticket: what to cook and how. `quantity` is the ticket's, not the bill's."""

    quantity: int
    name: str
    modifiers: tuple[str, ...] = ()
    notes: str = ""
    station: str = ""
    void: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """A kitchen or checker template of the POS; the defaults are those of a POS without template tables."""

    header_lines: tuple[str, ...] = ()
    footer_lines: tuple[str, ...] = ()
    show_bill_number: bool = True
    show_table_number: bool = True
    show_customer_name: bool = True
    show_station_name: bool = True
    show_date_time: bool = True
    show_item_qty: bool = True
    show_item_notes: bool = True
    show_station_label: bool = True
    show_checkbox: bool = True
    auto_cut: bool = True
    feed_lines: int = 3


@dataclass(frozen=True, slots=True)
class Reprint:
    """An earlier copy that is known to have come out."""

    printed_at: datetime | None
    printer: str


@dataclass(frozen=True, slots=True)
class Marks:
    """What the paper must say about this copy, so that nobody cooks twice or waits in vain."""

    reprint: Reprint | None = None
    possible_duplicate: bool = False
    check_printers: tuple[str, ...] = ()
    """Names of the printers where an earlier copy may lie; empty if nobody knows."""
    backup_for: str = ""
    backup_reason: str = ""
    """Why that printer could not print it: a `Reason`, or words; empty if nobody knows."""
    late_minutes: int = 0
    """0 = not late."""
    moved_from: tuple[str, ...] = ()
    """Names of the printers that have thrown an earlier copy away; a part of it may lie there."""


@dataclass(frozen=True, slots=True)
class Before:
    """The ticket of a station that was numbered just before another one."""

    number: int
    at: datetime
    """Aware: when it was sent first."""
    place: str
    """Its table or queue number as a cook would call it, like `T5`; empty if it had none."""
    printer: str
    """Name of the printer that it went to; empty if it is the one that this paper comes out of."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The place of a ticket among those of its station, brand and day; a cook who misses a number looks for it."""

    number: int
    """From 1 at DAY_START; copies and reprints keep the number of the first paper."""
    before: Before | None = None
    """None = it is the first of the day."""
    day: date | None = None
    """The day that the number belongs to, if that is not today's: a copy of an older ticket."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another station of the same order, and how many items it got."""

    station: str
    items: int


class Priority(StrEnum):
    """How the kitchen order of a ticket is to be treated; the POS's words."""

    NORMAL = "normal"
    RUSH = "rush"
    URGENT = "urgent"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the POS knows about a ticket at the moment of printing. Texts are as the POS stored them: unclean."""

    id: TicketId
    station: str
    checker: bool
    created_at: datetime
    """Aware; the web host's clock."""
    printed_now: datetime
    """Aware; the database's clock at the moment of sending."""
    timezone: str
    """IANA name of the store's zone; unknown names fall back to UTC."""
    bill_number: str
    bill_type: str
    table: str
    queue_number: int | None
    customer_name: str
    guest_count: int
    bill_notes: str
    waiter: str
    items: tuple[Item, ...]
    template: Template = field(default_factory=Template)
    marks: Marks = field(default_factory=Marks)
    chain: Chain | None = None
    also_at: tuple[Sibling, ...] = ()
    """The other stations of this order, in order of their names."""
    add_on: bool = False
    """Whether this bill already had a ticket at this station."""
    priority: Priority = Priority.NORMAL
    ready_by: datetime | None = None
    """Aware: ordered at + the station's target time."""


@dataclass(frozen=True, slots=True)
class PaperFormat:
    """The paper of one printer row: characters per line in the normal font, width in mm (58 or 80), and its make."""

    chars_per_line: int
    width_mm: int
    brand: str = ""
    """`printer_brand` of the row; an unknown one is treated as generic."""
    model: str = ""
    """What the printer has said of itself at its probe, or nothing."""
