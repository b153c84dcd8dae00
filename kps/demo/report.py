"""The result of a run of the demo: tickets in the database compared with the papers of the printers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kps.demo.kitchen import Papers


@dataclass(frozen=True, slots=True)
class TicketEnd:
    """A ticket in the database at the end. `status` is '' if it is gone, `proof` '' if there is none."""

    id: int
    station: str
    status: str
    proof: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The numbers of a run. Waits are seconds from the POS's commit to the first byte at a printer."""

    orders: int
    statuses: Mapping[str, int]
    proofs: Mapping[str, int]
    failovers: int
    """Tickets of which a backup printed a copy."""
    marked: int
    """Papers that say that another copy may exist."""
    waits: Sequence[float]
    papers: Mapping[str, int]
    failures: Sequence[str]
    """One sentence for each ticket that failed."""
    without_paper: Sequence[int]
    doubled: Sequence[int]
    """Tickets with more than one unmarked paper."""

    @property
    def tickets(self) -> int:
        """All tickets that the POS wrote."""
        return sum(self.statuses.values())

    @property
    def kept_all_promises(self) -> bool:
        """Whether every ticket is printed and on paper exactly once, apart from marked copies."""
        return self.statuses.get("printed", 0) == self.tickets and not self.without_paper and not self.doubled


def report(
    orders: int,
    committed: Mapping[int, float],
    ends: Sequence[TicketEnd],
    papers: Papers,
    counts: Mapping[str, int],
) -> Report:
    """Compare the tickets (`committed`: id -> `time.monotonic()` of the commit) with the papers."""
    by_id = {end.id: end for end in ends}
    known = [by_id.get(ticket, TicketEnd(ticket, "?", "")) for ticket in committed]
    copies = {ticket: papers.of(ticket) for ticket in committed}
    first = {ticket: papers.first_byte(ticket) for ticket in committed}
    return Report(
        orders=orders,
        statuses=Counter(end.status or "gone" for end in known),
        proofs=Counter(end.proof for end in known if end.status == "printed"),
        failovers=sum(1 for found in copies.values() if any(copy.backup for copy in found)),
        marked=sum(copy.marked for found in copies.values() for copy in found),
        waits=sorted(t - committed[ticket] for ticket, t in first.items() if t is not None),
        papers=dict(counts),
        failures=[f"ticket {end.id} ({end.station}) failed: {end.error}" for end in known if end.status == "failed"],
        without_paper=[ticket for ticket, found in copies.items() if not found],
        doubled=[ticket for ticket, found in copies.items() if sum(not copy.marked for copy in found) > 1],
    )


def summary(found: Report) -> list[str]:
    """The report in lines for people."""
    statuses = dict(found.statuses)
    printed, failed = statuses.pop("printed", 0), statuses.pop("failed", 0)
    rest = "".join(f", {count} still {status}" for status, count in statuses.items())
    proofs = ", ".join(f"{count} by {level or 'no proof'}" for level, count in sorted(found.proofs.items()))
    return [
        f"  orders         {found.orders}",
        f"  tickets        {found.tickets}: {printed} printed, {failed} failed{rest}",
        f"  proof          {proofs or 'none'}",
        f"  failovers      {found.failovers} printed by a backup",
        f"  marked copies  {found.marked}",
        f"  time to paper  {_times(found.waits)}",
        f"  papers         {', '.join(f'{name} {count}' for name, count in found.papers.items())}",
        *(f"  {sentence}" for sentence in found.failures[:10]),
        _verdict(found),
    ]


def _times(waits: Sequence[float]) -> str:
    if not waits:
        return "nothing came out"
    p50, p99, slowest = (milliseconds(percentile(waits, share)) for share in (0.50, 0.99, 1.0))
    return f"p50 {p50}, p99 {p99}, slowest {slowest} (commit to first byte)"


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of these sorted values that at least this share of them does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def milliseconds(seconds: float) -> str:
    """0.0042 -> `4.2 ms`, 0.123 -> `123 ms`."""
    ms = seconds * 1000
    return f"{ms:.1f} ms" if abs(ms) < 10 else f"{ms:.0f} ms"


def _verdict(found: Report) -> str:
    if found.tickets == 0:
        return "Nothing was ordered."
    if found.kept_all_promises:
        return (
            "Every ticket was printed and is on paper exactly once."
            if not found.marked
            else "Every ticket was printed; each further copy is marked on the paper."
        )
    faults = []
    if missing := found.tickets - found.statuses.get("printed", 0):
        faults.append(f"{missing} tickets are not printed")
    if found.without_paper:
        faults.append(f"no paper for {_ids(found.without_paper)}")
    if found.doubled:
        faults.append(f"unmarked copies of {_ids(found.doubled)}")
    return f"NOT WELL: {'; '.join(faults)}."


def _ids(tickets: Sequence[int]) -> str:
    return ", ".join(f"#{ticket}" for ticket in tickets[:10]) + (" ..." if len(tickets) > 10 else "")
