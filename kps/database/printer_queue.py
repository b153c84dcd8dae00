"""The verbs of a printer's process: promise and settle work, prove late, say what its device is like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from psycopg2.extras import Json

from kps.core.process_ids import IDS
from kps.core.tickets import NotPrinted, Outcome, Printed, PrinterKey, TicketId, Uncertain, Unprintable
from kps.core.work import Promised, Work, WorkKind
from kps.database.connection import Database
from kps.database.pos import PosAdapter
from kps.database.role import Role
from kps.database.row_mappers import promised_slip, promised_ticket
from kps.database.statements.work import Standing


class ClaimLost(Exception):
    """Somebody else may print this now, so we may not change it."""


class LeaseEnded(Exception):
    """The printer's lease cannot be trusted for long enough; the work is still ours and may be sent later."""


class Withdrawn(Exception):
    """The ticket is no longer `printing`: reset, failed, printed or deleted by somebody. The message is its status."""


@dataclass(frozen=True, slots=True)
class LateProof:
    """A copy that had been given up did come out."""

    ticket: TicketId
    status: str
    """The ticket's, now."""
    twice: bool
    """Another copy is out already."""
    cleared: bool = False
    """The printer had said that it threw this one away."""


class PrinterQueue(Role):
    """What one printer's process holds, and what it knows of its device."""

    def __init__(
        self, database: Database, pos: PosAdapter, me: str, instance: str, *, day_start_minutes: int = 240
    ) -> None:
        super().__init__(database, pos, me, instance)
        self._day_start = day_start_minutes

    def promise(self, work: Work, rows: Sequence[int], *, need_s: float, late_after_minutes: float) -> Promised:
        """Promise that bytes may leave now. Raises ClaimLost, LeaseEnded or Withdrawn.

        `rows` are the device's printer rows: a slip of a printer that is back tells what waits for them. A ticket that
        is older than `late_after_minutes` says so.
        """
        promised = self._promise(work, rows, need_s, late_after_minutes)
        if promised is not None:
            return promised
        standing = self._standing(work)
        if not standing.mine or standing.state != "claimed":
            raise ClaimLost
        if not standing.wanted:
            gone = self.database.run(self.sql.tickets.withdraw, id=work.id, token=work.token)
            raise Withdrawn(gone[0].status if gone else "gone")
        raise LeaseEnded

    def _promise(self, work: Work, rows: Sequence[int], need_s: float, late_after_minutes: float) -> Promised | None:
        """What the paper says, for each kind from tables of its own; None = the promise was refused."""
        match work.kind:
            case WorkKind.TICKET:
                asked: dict[str, Any] = {
                    "ticket": work.id,
                    "token": work.token,
                    "need": need_s,
                    "day_start": self._day_start,
                }
                tickets = self.database.run(self.sql.tickets.promise_first, **asked) or self.database.run(
                    self.sql.tickets.promise, **asked
                )
                return promised_ticket(TicketId(work.id), tickets[0], late_after_minutes) if tickets else None
            case WorkKind.SLIP:
                slips = self.database.run(
                    self.sql.slips.promise, id=work.id, token=work.token, need=need_s, rows=list(rows)
                )
                return promised_slip(slips[0]) if slips else None
            case unexpected:
                assert_never(unexpected)

    def settle(
        self,
        work: Work,
        outcome: Outcome,
        *,
        duration_ms: int,
        asked: bool = True,
        possible_duplicate: bool = False,
        again_s: float,
    ) -> str:
        """Write what became of it; returns the ticket's status now ('gone' if it was deleted), or the slip's state.

        A slip that is not on paper is tried again after `again_s`; when a ticket is, its rounds decide. The others are
        for the ticket's audit row; `asked`: the outcome says something about the printer.

        Raises ClaimLost. Safe to repeat after a lost reply: an outcome that has been written counts as written.
        """
        kind, code, error, sent, proof, extra = _told(outcome)
        cleared = isinstance(outcome, Uncertain) and outcome.cleared
        extra["possible_duplicate"] = possible_duplicate
        row = self.database.run(
            self.sql.of(work.kind).settle,
            id=work.id,
            token=work.token,
            outcome=kind,
            code=code,
            error=error,
            sent=sent,
            cleared=cleared,
            proof=proof,
            duration=duration_ms,
            asked=asked,
            delay=again_s,
            instance=self.instance,
            metadata=Json(extra),
        )[0]
        if row.settled:
            return row.status or "gone"
        standing = self._standing(work)
        if standing.settled:
            return standing.status or "gone"
        raise ClaimLost

    def unsent(self, work: Work, *, again_s: float) -> None:
        """Give it back: no byte has left, whether or not its promise was committed. Raises ClaimLost, if that is sure.

        A slip is tried again after `again_s`.
        """
        row = self.database.run(
            self.sql.of(work.kind).unsent, id=work.id, token=work.token, delay=again_s, instance=self.instance
        )[0]
        if row.lost:
            raise ClaimLost

    def _standing(self, work: Work) -> Standing:
        return self.database.run(self.sql.of(work.kind).standing, id=work.id, token=work.token)[0]

    def demote(self, key: PrinterKey, epoch: int, text: str) -> None:
        """The proofs of a device of mine are not believed any more, and why."""
        self.database.run(self.sql.demote, key=key, me=self.me, epoch=epoch, text=text)

    def late_proof(self, key: PrinterKey, rows: Sequence[int], value: int) -> LateProof | None:
        """A device with these printer rows said the process ID `value` (modulo IDS - 1).

        None = it proves no ticket that was given up there.
        """
        found = self.database.run(
            self.sql.late_proof, key=key, rows=list(rows), value=value, ids=IDS - 1, instance=self.instance
        )
        if not found:
            return None
        return LateProof(found[0].id, found[0].status, found[0].twice, found[0].cleared)

    def may_be_ours(self, value: int) -> bool:
        """Whether the process ID `value` (modulo IDS - 1) was taken for one of the last sendings."""
        return self.database.run(self.sql.recent_id, value=value, ids=IDS - 1)[0].recent

    def torn(self, key: PrinterKey) -> bool:
        """Whether something that was sent to a device has no proven end: it may wait for the rest of a picture."""
        return self.database.run(self.sql.torn, key=key)[0].torn

    def came_back(self, key: PrinterKey, rows: Sequence[int]) -> list[TicketId]:
        """A device with these printer rows can print again; returns tickets that it may have printed, each once."""
        found = self.database.run(self.sql.came_back, key=key, rows=list(rows), instance=self.instance)
        return [row.ticket_id for row in found]

    def health(
        self,
        key: PrinterKey,
        rows: Sequence[int],
        *,
        online: bool,
        response_ms: int | None,
        paper: str,
        code: str,
        error: str,
        temperature_ok: bool | None,
        cutter_ok: bool | None,
    ) -> None:
        """One health row per printer row of a device that is mine."""
        self.database.run(
            self.sql.health, key=key, me=self.me, rows=list(rows), online=online, response=response_ms, paper=paper,
            code=code, error=error, temperature=temperature_ok, cutter=cutter_ok,
        )  # fmt: skip

    def prune_health(self, rows: Sequence[int], days: float) -> int:
        """Delete old health rows; returns how many."""
        return len(self.database.run(self.sql.prune_health, rows=list(rows), days=days))


def _told(outcome: Outcome) -> tuple[str, str, str, bool, str | None, dict[str, Any]]:
    """An outcome as (kind, error code, error text, bytes may have left, proof, metadata)."""
    match outcome:
        case Printed(level, sent_bytes):
            proof = level.value if level.proves_paper else "sent"
            extra = {"proof": proof, "level": level.value, "proven": level.proves_paper, "bytes": sent_bytes}
            return "printed", "", "", True, level.value, extra
        case NotPrinted(reason, text):
            return "retry", reason.value, text, False, None, {"outcome": "not_printed", "bytes": 0}
        case Uncertain(reason, text, sent_bytes, sent_whole, cleared):
            extra = {"outcome": "uncertain", "bytes": sent_bytes, "sent_whole": sent_whole, "cleared": cleared}
            return "retry", reason.value, text, True, None, extra
        case Unprintable(reason, text):
            return "failed", reason.value, text, False, None, {"outcome": "unprintable", "bytes": 0}
