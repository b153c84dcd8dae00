"""What KPS prints of its own accord: VOID, CANCELLED and TABLE CHANGED slips, outage and catch-up slips."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

SlipId = NewType("SlipId", int)
"""`kps.slip.id`."""


class SlipKind(StrEnum):
    """What a slip is about, as `kps.slip` names it."""

    VOID = "void"
    CANCELLED = "cancelled"
    MOVED = "moved"
    OUTAGE = "outage"
    CATCH_UP = "catch_up"


class ChangeKind(StrEnum):
    """What has happened to something that is on paper already."""

    VOID = "void"
    """Items of a bill that goes on were voided."""
    CANCELLED = "cancelled"
    """The whole bill was cancelled."""
    MOVED = "moved"
    """The bill was moved to another table."""


@dataclass(frozen=True, slots=True)
class ChangedItem:
    """An item that is on paper, and where a cook finds that paper. Texts are unclean."""

    quantity: int
    name: str
    reason: str
    """Why it was voided, in the words of whoever did it; mostly empty."""
    number: int | None
    """Of its ticket in the paper chain of the station; None if it has none."""
    printed_at: datetime
    """Aware."""
    printer: str
    """Name of the printer that its ticket came out of."""


@dataclass(frozen=True, slots=True)
class ChangeSlip:
    """VOID, CANCELLED or TABLE CHANGED: what a station must know of items that it has on paper."""

    kind: ChangeKind
    station: str
    table: str
    """Table number; of a moved bill the old one. Empty if it has none."""
    new_table: str
    """Of a moved bill; else empty."""
    queue_number: int | None
    bill_type: str
    bill_number: str
    items: tuple[ChangedItem, ...]


@dataclass(frozen=True, slots=True)
class OutageSlip:
    """At the backup: the tickets of another printer come out here from now on."""

    printer: str
    """Name of the printer that cannot print."""
    reason: str
    """A `Reason`, or words; empty if nobody knows."""
    since: datetime | None
    """Aware; since when it cannot print, if that is known."""


@dataclass(frozen=True, slots=True)
class ElsewhereTicket:
    """A ticket of a printer's that another printer got, or that waits, as a cook would name it."""

    ticket: int
    """Its number in the POS."""
    station: str
    number: int | None
    """In the paper chain of its station."""
    place: str
    """Like `T5`; empty if it has neither table nor queue number."""
    printer: str
    """Where it came out; empty for one that waits."""
    at: datetime | None
    """Aware: when it came out, or when a waiting one was ordered."""


@dataclass(frozen=True, slots=True)
class CatchUpSlip:
    """At a printer that is back: what has become of its tickets meanwhile."""

    printer: str
    since: datetime | None
    """Aware; since when it could not print, if that is known."""
    went_elsewhere: tuple[ElsewhereTicket, ...]
    maybe_twice: tuple[ElsewhereTicket, ...]
    """Came out elsewhere, but a copy may lie, or may still come out, at this printer too."""
    waiting: tuple[ElsewhereTicket, ...]
    """At the moment of printing."""


SlipContent = ChangeSlip | OutageSlip | CatchUpSlip


@dataclass(frozen=True, slots=True)
class Slip:
    """One slip at the moment of printing."""

    id: SlipId
    content: SlipContent
    printed_now: datetime
    """Aware; the database's clock."""
    timezone: str
    """IANA name of the store's zone; unknown names fall back to UTC."""
    possible_duplicate: bool = False
    """Whether an earlier copy of this slip may have come out."""
    check_printers: tuple[str, ...] = ()
    """Names of the printers where that copy may lie."""
