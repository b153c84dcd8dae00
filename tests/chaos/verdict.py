"""What is on paper, held against what the database says: lost, unmarked, marked, inverted. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

MARKS: Final = ("POSSIBLE DUPLICATE", "REPRINT -", "MOVED -")
"""A heading that begins so tells the cook that there may be, or is, another copy."""
_QUEUE: Final = re.compile(r"QUEUE (\d+)")
_SLIP: Final = re.compile(r"slip #\d+")
"""The last line of a slip: it tells of tickets, and is none."""
_SLIPS: Final = ("VOID", "CANCELLED", "TABLE CHANGED")
"""The first line of a slip that names a queue number as a ticket does."""
_CODE: Final = re.compile(r"#(\d+)")

SAYS_SENT_ONLY: Final = frozenset({"realtime", "none"})
"""Proof levels at which `printed` means: sent whole, accepted, and no contrary sign. They prove no paper."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A ticket on paper, or the part of one that came out before something tore it."""

    printer: str
    queue: int
    """The number that stands on top of every ticket; each has its own."""
    whole: bool
    """It goes on to the ticket's code, which is its last line."""
    marked: bool


@dataclass(frozen=True, slots=True)
class Ticket:
    """A committed ticket as the database has it in the end."""

    id: int
    queue: int
    station: str
    status: str
    proof: str = ""
    waited: bool = False
    """Whether it was ever anything but claimed once, sent once and printed: see `Verdict.inversions`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run has come to; tickets by id."""

    tickets: int
    failed: int
    """Visibly failed: the POS shows it. No loss."""
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


def pieces(printer: str, texts: Iterable[str]) -> list[Piece]:
    """The tickets on the papers of one printer, in the order in which they came out.

    A paper may hold several: a torn ticket is not cut off from the next one.
    """
    found: list[Piece] = []
    for text in texts:
        marked, queue, slip = False, None, False
        for line in map(str.strip, text.splitlines()):
            if line.startswith(MARKS):
                marked = True
            elif line in _SLIPS:
                slip = True
            elif _SLIP.fullmatch(line):
                marked, slip = False, False
            elif slip:
                continue
            elif match := _QUEUE.fullmatch(line):
                if queue is not None:
                    found.append(Piece(printer, queue[0], False, queue[1]))
                queue, marked = (int(match[1]), marked), False
            elif _CODE.fullmatch(line) and queue is not None:
                found.append(Piece(printer, queue[0], True, queue[1]))
                queue = None
        if queue is not None:
            found.append(Piece(printer, queue[0], False, queue[1]))
    return found


def judge(tickets: Sequence[Ticket], papers: Mapping[str, Sequence[Piece]]) -> Verdict:
    """Hold the papers of all printers against all committed tickets."""
    everything = [piece for of_printer in papers.values() for piece in of_printer]
    whole = {piece.queue for piece in everything if piece.whole}
    unmarked = Counter(piece.queue for piece in everything if not piece.marked)
    absent = [ticket for ticket in tickets if ticket.queue not in whole and ticket.status != "failed"]
    sent_only = [ticket.id for ticket in absent if ticket.status == "printed" and ticket.proof in SAYS_SENT_ONLY]
    known = {ticket.queue for ticket in tickets}
    return Verdict(
        tickets=len(tickets),
        failed=sum(ticket.status == "failed" for ticket in tickets),
        lost=[ticket.id for ticket in absent if ticket.id not in sent_only],
        sent_only=sent_only,
        unmarked=[ticket.id for ticket in tickets for _ in range(unmarked[ticket.queue] - 1)],
        marked=sum(piece.marked for piece in everything),
        inversions=[ticket for of_printer in papers.values() for ticket in _inverted(of_printer, tickets)],
        strangers=sorted({piece.queue for piece in everything} - known),
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
