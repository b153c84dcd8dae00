"""Paper compared with the database: lost, unmarked, marked and inverted tickets. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.paper import Piece

SAYS_SENT_ONLY: Final = frozenset({"realtime", "none"})
"""Proof levels at which `printed` means: sent whole, accepted, and no contrary sign. They prove no paper."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A committed ticket as it is in the database at the end."""

    id: int
    queue: int
    station: str
    status: str
    proof: str = ""
    waited: bool = False
    """Whether it had any other life than claimed once, sent once and printed: see `Verdict.inversions`."""
    sends: int = 0
    """Copies that were promised; each may have come out, whole or in part."""
    drawn: bool = False
    """Whether one of its lines is a picture."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a run; tickets are named by id."""

    tickets: int
    failed: int
    """Number of failed tickets. The POS shows them, so they are not lost."""
    lost: list[int]
    """Committed, not on paper, and not `failed`."""
    sent_only: list[int]
    """Closed at a level that proves no paper, and not on paper. The log row says so; see docs/reliability.md."""
    unmarked: list[int]
    """Tickets with a second unmarked copy, whole or torn; once for each copy too many."""
    marked: int
    """Marked copies."""
    inversions: list[int]
    """First copies that came out of a printer after one with a higher id, of tickets that never waited."""
    strangers: list[int] = field(default_factory=list)
    """Numbers on paper that no ticket has: of a ticket whose commit failed, or garbage."""
    torn: int = 0
    """Pieces of torn tickets."""
    torn_pictures: int = 0
    """Of these, the ones that end in the picture, which is the first line below their head."""


def judge(tickets: Sequence[Ticket], papers: Mapping[str, Sequence[Piece]]) -> Verdict:
    """Compare the papers of all printers with all committed tickets."""
    everything = [piece for of_printer in papers.values() for piece in of_printer]
    whole = {piece.queue for piece in everything if piece.whole}
    unmarked = Counter(piece.queue for piece in everything if not piece.marked)
    absent = [ticket for ticket in tickets if ticket.queue not in whole and ticket.status != "failed"]
    sent_only = [ticket.id for ticket in absent if ticket.status == "printed" and ticket.proof in SAYS_SENT_ONLY]
    known = {ticket.queue for ticket in tickets}
    drawn = {ticket.queue for ticket in tickets if ticket.drawn}
    return Verdict(
        tickets=len(tickets),
        failed=sum(ticket.status == "failed" for ticket in tickets),
        lost=[ticket.id for ticket in absent if ticket.id not in sent_only],
        sent_only=sent_only,
        unmarked=[ticket.id for ticket in tickets for _ in range(unmarked[ticket.queue] - 1)],
        marked=sum(piece.marked for piece in everything),
        inversions=[ticket for of_printer in papers.values() for ticket in _inverted(of_printer, tickets)],
        strangers=sorted({piece.queue for piece in everything} - known),
        torn=sum(not piece.whole for piece in everything),
        torn_pictures=sum(piece.at_picture and not piece.whole and piece.queue in drawn for piece in everything),
    )


def _inverted(of_printer: Sequence[Piece], tickets: Sequence[Ticket]) -> list[int]:
    """Tickets that came out of a printer behind one with a higher id, although neither of the two ever waited.

    "Among the tickets claimable for one printer at the same moment the lowest id goes first; one that waited (retry,
    failover, rescue, half-written, committed late) may be overtaken." The till commits one ticket after the other, so
    a lower id was always committed earlier, and was claimable when the higher one was - unless it waited.
    Only tickets of one station are held against each other: one whose own printer is merely busy is not claimable for
    the backup that it shares with another station, and comes there later when its own printer has failed.
    """
    prompt = {ticket.queue: ticket for ticket in tickets if not ticket.waited}
    highest: dict[str, int] = {}
    found = []
    for piece in of_printer:
        ticket = prompt.get(piece.queue)
        if ticket is None or piece.marked:
            continue
        if ticket.id < highest.get(ticket.station, 0):
            found.append(ticket.id)
        highest[ticket.station] = max(highest.get(ticket.station, 0), ticket.id)
    return found
