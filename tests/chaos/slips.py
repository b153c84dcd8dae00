"""Slips on paper compared with what became of the orders: missing, doubled, or without a reason. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.paper import CHANGES, FURTHER, Kind, Piece, SlipPiece
from tests.chaos.verdict import Ticket

PAID: Final = "paid"
CANCELLED: Final = "cancelled"


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a ticket, as it is at the end."""

    queue: int
    """Queue number of its ticket."""
    dish: str
    drawn: bool = False
    """Whether its name is sent as a picture. At most one item of a ticket is."""
    void: bool = False
    bill: str = "open"
    """Status of the bill that it belongs to now."""
    merged: bool = False
    """Whether that is another bill than the ticket's."""
    table: int = 0
    """Table of that bill, see FURTHER; 0 = none."""

    def __str__(self) -> str:
        return f"{self.dish} of {self.queue}"


@dataclass(frozen=True, slots=True)
class Slip:
    """A slip as it is in the database at the end."""

    id: int
    kind: Kind
    state: str
    station: str = ""
    """The station, in small letters; empty for a slip about printers."""
    place: int = 0
    """As `SlipPiece.place`."""
    items: tuple[tuple[int, str], ...] = ()
    """(queue number of the ticket, dish)."""
    numbers: tuple[int, ...] = ()
    """As `SlipPiece.numbers`."""


@dataclass(frozen=True, slots=True)
class SlipVerdict:
    """The result for the slips of a run; faults in words."""

    slips: int = 0
    marked: int = 0
    """Number of marked copies of slips."""
    failed: int = 0
    """Number of slips that ended as `failed`, which is visible like a failed ticket."""
    missing: list[str] = field(default_factory=list)
    """Changes of what is on paper without a whole slip about them; and slips that are `printed` and on no paper."""
    unmarked: list[str] = field(default_factory=list)
    """Second copies of slips, or second slips about a change, without a mark."""
    false_alarms: list[str] = field(default_factory=list)
    """Slips about what did not happen or what the station has not on paper, and slips at a wrong station."""


def judge_slips(
    items: Sequence[Item],
    tickets: Sequence[Ticket],
    tickets_on_paper: Iterable[Piece],
    slips: Sequence[Slip],
    slips_on_paper: Sequence[SlipPiece],
    routes: Mapping[str, frozenset[str]],
) -> SlipVerdict:
    """Compare the slips of all printers with all items. `routes` are the printers of each station."""
    copies: dict[int, list[Piece]] = {}
    for piece in tickets_on_paper:
        copies.setdefault(piece.queue, []).append(piece)
    whole = {piece.id for piece in slips_on_paper if piece.id}
    by_queue = {ticket.queue: ticket for ticket in tickets}
    slips_about: dict[tuple[int, str], list[Slip]] = {}
    for slip in slips:
        for about in slip.items:
            slips_about.setdefault(about, []).append(slip)
    verdict = SlipVerdict(
        slips=len(slips),
        marked=sum(piece.marked for piece in slips_on_paper),
        failed=sum(slip.state == "failed" for slip in slips),
        missing=[f"slip {slip.id} ({slip.kind})" for slip in slips if slip.state == "printed" and slip.id not in whole],
        unmarked=_copied_unmarked(slips, slips_on_paper),
        false_alarms=_strange(slips, slips_on_paper, routes),
    )
    for item in items:
        ticket = by_queue.get(item.queue)
        if ticket is not None:
            mine = slips_about.pop((item.queue, item.dish), [])
            _judge_item(verdict, item, ticket, copies.get(item.queue, []), mine, whole)
    verdict.false_alarms.extend(
        f"slip {slip.id} ({slip.kind}) about {dish} of {queue}"
        for (queue, dish), unknown in slips_about.items()
        for slip in unknown
    )
    return verdict


def _judge_item(
    verdict: SlipVerdict,
    item: Item,
    ticket: Ticket,
    copies: Sequence[Piece],
    slips_about: Sequence[Slip],
    whole: set[int],
) -> None:
    """Add to the verdict what is wrong with the slips about one item."""
    change, certain = due(item, ticket, copies)
    right = [slip for slip in slips_about if slip.kind == change]
    verdict.false_alarms.extend(
        f"slip {slip.id} ({slip.kind}) about {item}" for slip in slips_about if slip.kind != change
    )
    verdict.unmarked.extend(f"{slip.kind} of {item} in slip {slip.id} too" for slip in right[1:])
    # A slip that is `printed` and not on paper is in the verdict already.
    if certain and not any(slip.state in ("printed", "failed") or slip.id in whole for slip in right):
        verdict.missing.append(f"{change} of {item}")


def due(item: Item, ticket: Ticket, copies: Sequence[Piece]) -> tuple[Kind | None, bool]:
    """The kind of slip that a station may get about an item, None = none; and whether it must get it.

    It must if what has changed is on paper. It may if a copy was promised and there is no whole paper of it: then it is
    not known what of it came out. A failed ticket needs no slip, because the POS shows it.
    """
    change = _change(item)
    outdated = [
        copy
        for copy in copies
        if (copy.drawn if item.drawn else item.dish in copy.dishes)
        and (change is not Kind.MOVED or copy.table == item.queue)
    ]
    unknown = sum(copy.whole for copy in copies) < ticket.sends
    if change is None or not (outdated or unknown):
        return None, False
    return change, bool(outdated) and ticket.status == "printed"


def _change(item: Item) -> Kind | None:
    if item.bill == PAID:
        return None
    if item.bill == CANCELLED:
        return Kind.CANCELLED
    if item.void:
        return Kind.VOID
    return Kind.MOVED if item.table > FURTHER and not item.merged else None


def _copied_unmarked(slips: Sequence[Slip], papers: Sequence[SlipPiece]) -> list[str]:
    """Slips with a second unmarked copy, once for each copy too many.

    A torn one has no number; it is a copy of one of the slips with its title, station and place.
    """
    unmarked = [piece for piece in papers if not piece.marked]
    by_id = Counter(piece.id for piece in unmarked if piece.id)
    found = [f"slip {number}" for number, count in by_id.items() for _ in range(count - 1)]
    first = {slip.id for slip in slips if by_id[slip.id]}
    free = Counter((slip.kind, slip.station, slip.place) for slip in slips if slip.id not in first)
    for piece in unmarked:
        if piece.id or not piece.place or piece.kind is None:
            continue
        key = (piece.kind, piece.station, piece.place)
        free[key] -= 1
        if free[key] < 0:
            found.append(f"torn slip ({piece.kind}) at {piece.station} about {piece.place}")
    return found


def _strange(slips: Sequence[Slip], papers: Sequence[SlipPiece], routes: Mapping[str, frozenset[str]]) -> list[str]:
    """Slips on paper whose text or station differs from the database."""
    by_id = {slip.id: slip for slip in slips}
    places = {(slip.kind, slip.station, slip.place) for slip in slips}
    found = []
    for piece in papers:
        slip = by_id.get(piece.id)
        if piece.id and slip is None:
            found.append(f"slip {piece.id}, which nobody has made")
        elif slip is not None and (slip.kind, slip.station) != (piece.kind, piece.station):
            found.append(f"slip {slip.id} is headed {piece.kind} {piece.station}, and is {slip.kind} {slip.station}")
        elif slip is not None and slip.kind in CHANGES and (slip.place, slip.numbers) != (piece.place, piece.numbers):
            found.append(f"slip {slip.id} names {piece.place} {piece.numbers}, and is of {slip.place} {slip.numbers}")
        elif not piece.id and piece.place and (piece.kind, piece.station, piece.place) not in places:
            found.append(f"torn slip ({piece.kind}) at {piece.station} about {piece.place}")
        elif piece.station and piece.printer not in routes.get(piece.station, frozenset()):
            found.append(f"a slip of {piece.station} at {piece.printer}")
    return found
