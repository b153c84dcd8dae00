"""The queue's verbs over one connection: look, claim, sending, settle, release, end a round, rescue."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg2.extras import Json

from kps.core.address import device_address, printer_key
from kps.core.backlog import Among, Horizon, Survey
from kps.core.proof import IDS
from kps.core.routing import ALL_SERVED, ClaimFor, DeviceState, PrinterRow, Served, Waiting
from kps.core.slips import (
    SlipId,
)
from kps.core.tickets import (
    NotPrinted,
    Outcome,
    PaperFormat,
    Printed,
    PrinterKey,
    Ticket,
    TicketId,
    Token,
    Uncertain,
    Unprintable,
)
from kps.database.connection import CALL_LIMIT_S, Database
from kps.database.readings import Sending, SlipSending, sending, slip_sending
from kps.database.schema import PosSchema
from kps.database.statements import Statements
from kps.database.statements.dispatching import PATIENT_S, Looked
from kps.database.statements.keeping import PosRow
from kps.database.statements.paper import Paper


class ClaimLost(Exception):
    """Somebody else may print this ticket now, so we may not change it."""


class LeaseEnded(Exception):
    """The printer's lease cannot be trusted for long enough; the ticket is still ours and may be sent later."""


class Withdrawn(Exception):
    """The ticket is no longer `printing`: reset, failed, printed or deleted by somebody. The message is its status."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A ticket that has become `printing` for one of our printers."""

    key: PrinterKey
    ticket: TicketId
    token: Token


@dataclass(frozen=True, slots=True)
class GivenBack:
    """What came of giving claims back."""

    released: int
    """So many still were ours."""
    left: frozenset[TicketId]
    """Still ours: somebody has their rows locked."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a comparison of claims with what is held has come to."""

    released: int
    left: int
    """To be given back later: somebody has their tickets' rows locked."""


@dataclass(frozen=True, slots=True)
class SlipsMade:
    """What a look for events has come to."""

    count: int
    any_open: bool
    """Whether there are slips to be told, these or earlier ones."""


@dataclass(frozen=True, slots=True)
class WaitingSlip:
    """A slip that nobody prints now."""

    id: SlipId
    token: Token
    kind: str
    station: str
    brand: str
    target: PrinterKey
    """The only device that may print it; empty = the route of its station and brand."""
    over: bool
    """Nobody needs it any more, or it was given to printers too often."""
    waits: bool
    """It is to be tried again a little later."""


@dataclass(frozen=True, slots=True)
class Previewed:
    """What the next copy of a ticket would be made of."""

    ticket: Ticket
    paper: PaperFormat
    printer_name: str
    """Empty if no printer row would get it."""


class UnknownPrinter(Exception):
    """No printer row has that name; `known` has those that there are."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(name)
        self.known = known


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


@dataclass(frozen=True, slots=True)
class OldTicket:
    """A `new` ticket of another day, found by a first look."""

    id: TicketId
    token: Token
    at: float
    """When it was written: seconds since 1970."""
    stale: bool
    """It is to be failed."""
    reset: bool
    """Somebody wants it once more: it is printed like any other."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A ticket whose round has ended: `failed`, or waiting for the next."""

    ticket: TicketId
    status: str
    attempts: int


class Queue:
    """Statements of one instance (`me`: its owner uuid) fitted to one schema. Every verb may raise DatabaseTrouble."""

    def __init__(
        self, database: Database, schema: PosSchema, me: str, instance: str, *, day_start_minutes: int = 240
    ) -> None:
        self._day_start = day_start_minutes
        self._skipped = 0
        """The connection on which tokens were left out; a claim never uses another."""
        self.database = database
        self.schema = schema
        self.sql = Statements(schema)
        self.me = me
        self.instance = instance

    def look(self, depth: int, among: Among | None = None, served: Served = ALL_SERVED) -> list[Waiting]:
        """The oldest `depth` tickets per station and brand that may be decided on now, in order of ids.

        `among` is for a backlog that is too large to look through it each time.
        """
        routes = sorted(served.routes)
        asked: dict[str, Any] = {
            "depth": depth,
            "stations": sorted(served.stations),
            "brands": sorted(served.brands),
            "own_stations": [station for station, _ in routes],
            "own_brands": [brand for _, brand in routes],
        }
        if among is None:
            return [_waiting(row) for row in self.database.run(self.sql.look, **asked)]
        return [_waiting(row) for row in self.database.run(self.sql.look_among, **asked, **_scope(among))]

    def horizon(self, minutes: float) -> tuple[Horizon, bool]:
        """What is older than `minutes` now, and numbered up to now's last ticket, is of another day.

        The second value says whether there is a `new` one of that kind.
        """
        row = self.database.run(self.sql.horizon, minutes=minutes)[0]
        return Horizon(row.before, row.up_to), row.any_old

    def newest(self) -> Survey:
        """A survey of this moment that has found nothing: what comes from now on is seen all the same."""
        rows = self.database.run(self.sql.newest)
        return Survey(rows[0].id, rows[0].at) if rows else Survey(TicketId(0), math.inf)

    def survey(self, depth: int, among: Among) -> Survey:
        """The oldest `depth` tickets per station and brand, however many there are. It takes its time."""
        now = self.newest()
        rows = self.database.run(self.sql.survey, depth=depth, **_scope(among), limit=PATIENT_S + 5.0)
        routes: dict[tuple[str, str], list[TicketId]] = {}
        for row in rows:
            routes.setdefault((row.station, row.brand), []).append(row.id)
        cut = {route: ids[depth - 1] for route, ids in routes.items() if len(ids) >= depth}
        count = rows[0].waiting if rows else 0
        return replace(now, ids=frozenset(row.id for row in rows), cut=cut, count=count)

    def claim(self, wanted: Sequence[tuple[Waiting, ClaimFor, int]]) -> list[Claimed]:
        """new -> printing for tickets with their printer and its epoch; those that changed meanwhile are left out."""
        self._skip_tokens()
        rows = self.database.run(
            self.sql.claim,
            ids=[ticket.id for ticket, _, _ in wanted],
            tokens=[ticket.token for ticket, _, _ in wanted],
            keys=[claim.row.key for _, claim, _ in wanted],
            epochs=[epoch for _, _, epoch in wanted],
            rows=[claim.row.id for _, claim, _ in wanted],
            names=[claim.row.name for _, claim, _ in wanted],
            backups=[claim.backup_for for _, claim, _ in wanted],
            backup_keys=[claim.backup_for_key or "" for _, claim, _ in wanted],
            reasons=[claim.backup_reason for _, claim, _ in wanted],
            me=self.me,
            instance=self.instance,
        )
        return [Claimed(row.printer_key, row.id, row.token) for row in rows]

    def _skip_tokens(self) -> None:
        """Before the first claim of a connection: a crash of the server may have taken back the last tokens."""
        if not self.database.connected:
            self.database.connect()
        if self._skipped != self.database.opened:
            self.database.run(self.sql.skip_tokens)
            self._skipped = self.database.opened

    def sending(self, ticket: TicketId, token: Token, *, need_s: float, late_after_minutes: float) -> Sending:
        """Promise that bytes may leave now. Raises ClaimLost, LeaseEnded or Withdrawn."""
        rows: list[Paper] = []
        for promise in (self.sql.sending_first, self.sql.sending):
            rows = rows or self.database.run(
                promise, ticket=ticket, token=token, need=need_s, day_start=self._day_start
            )
        if rows:
            return sending(ticket, rows[0], late_after_minutes)
        standing = self.database.run(self.sql.standing, ticket=ticket, token=token)[0]
        if not standing.mine or standing.state != "claimed":
            raise ClaimLost
        if standing.status != "printing":
            gone = self.database.run(self.sql.withdraw, ticket=ticket, token=token)
            raise Withdrawn(gone[0].status if gone else "gone")
        raise LeaseEnded

    def preview(
        self, ticket: TicketId, printer: str = "", *, site: str = "", late_after_minutes: float = 5.0
    ) -> Previewed | None:
        """What the next copy of a ticket would say at the printer of that name; None = there is no such ticket.

        Without a name: at the printer that had it last, else at the first of its route. Raises UnknownPrinter.
        """
        found = self.database.run(self.sql.whereabouts, ticket=ticket)
        if not found:
            return None
        where = found[0]
        rows = self.database.run(self.sql.rows)
        along = [row for row in rows if (row.station, row.brand) == (where.station, where.brand)]
        chosen: PosRow | None
        if printer:
            wanted = printer.strip().lower()
            named = [row for row in (*along, *rows) if row.name.lower() == wanted]
            if not named:
                raise UnknownPrinter(printer, sorted({row.name for row in rows}))
            chosen = named[0]
        else:
            last = [row for row in rows if row.id == where.printer_id]
            chosen = next(iter((*last, *along)), None)
        backup = chosen is not None and along and chosen.id != along[0].id and chosen in along
        written = self.database.run(
            self.sql.preview,
            ticket=ticket,
            row=None if chosen is None else chosen.id,
            name="" if chosen is None else chosen.name,
            key="" if chosen is None else _device_of(chosen, site),
            backup_for=along[0].name if backup else "",
            day_start=self._day_start,
        )
        if not written:
            return None
        shown = sending(ticket, written[0], late_after_minutes)
        return Previewed(shown.ticket, shown.paper, shown.printer_name)

    def make_slips(
        self,
        *,
        minutes: float,
        stations: frozenset[str] | None,
        own_stations: frozenset[str] = frozenset(),
        own_brands: frozenset[str] = frozenset(),
    ) -> SlipsMade:
        """Make a slip of each event that a station must know of.

        Changes older than `minutes`, and of other stations than these (None = all), are not told. An instance that is
        limited to some stations or brands (empty = not) leaves the others' alone.
        """
        limited = stations is not None
        row = self.database.run(
            self.sql.make_slips, minutes=minutes, limited=limited, stations=sorted(stations or ()),
            own_stations=sorted(own_stations), own_brands=sorted(own_brands),
        )[0]  # fmt: skip
        return SlipsMade(row.made, bool(row.made or row.waiting))

    def look_slips(self) -> list[WaitingSlip]:
        """Slips that nobody prints now, oldest first."""
        return [
            WaitingSlip(
                row.id, row.token, row.kind, row.station, row.brand, row.target,
                row.over, bool(row.waits),
            )
            for row in self.database.run(self.sql.look_slips)
        ]  # fmt: skip

    def claim_slip(self, slip: WaitingSlip, row: PrinterRow, epoch: int) -> Token | None:
        """Take a slip for a printer of mine; None if somebody else has it."""
        self._skip_tokens()
        rows = self.database.run(
            self.sql.claim_slip, slip=slip.id, token=slip.token, key=row.key, row=row.id, name=row.name, epoch=epoch,
            me=self.me,
        )  # fmt: skip
        return rows[0].token if rows else None

    def give_up_slip(self, slip: WaitingSlip, error: str) -> bool:
        """Nobody is told any more; False if somebody else has it."""
        return bool(self.database.run(self.sql.give_up_slip, slip=slip.id, token=slip.token, error=error))

    def sending_slip(self, slip: SlipId, token: Token, rows: Sequence[int], *, need_s: float) -> SlipSending:
        """Promise that bytes of a slip may leave now. Raises ClaimLost or LeaseEnded."""
        found = self.database.run(self.sql.sending_slip, slip=slip, token=token, need=need_s, rows=list(rows))
        if found:
            return slip_sending(found[0])
        standing = self.database.run(self.sql.standing_slip, slip=slip, token=token)
        if not standing or not standing[0].mine or standing[0].state != "claimed":
            raise ClaimLost
        raise LeaseEnded

    def settle_slip(self, slip: SlipId, token: Token, outcome: Outcome, *, delay_s: float) -> None:
        """Write what became of a slip; it is tried again after `delay_s` if it is not on paper. Raises ClaimLost."""
        kind, _, error, sent, proof, _ = _told(outcome)
        if self.database.run(
            self.sql.settle_slip, slip=slip, token=token, outcome=kind, error=error, sent=sent, proof=proof,
            delay=delay_s,
        ):  # fmt: skip
            return
        standing = self.database.run(self.sql.standing_slip, slip=slip, token=token)
        if not standing or not standing[0].settled:
            raise ClaimLost

    def release_slips(self, claims: Iterable[tuple[SlipId, Token]]) -> int:
        """Give claimed slips back; returns how many still were ours."""
        pairs = list(claims)
        if not pairs:
            return 0
        row = self.database.run(
            self.sql.release_slips, slips=[slip for slip, _ in pairs], tokens=[token for _, token in pairs]
        )[0]
        return row.released

    def settle(
        self,
        ticket: TicketId,
        token: Token,
        outcome: Outcome,
        *,
        duration_ms: int,
        asked: bool = True,
        possible_duplicate: bool = False,
    ) -> str:
        """Write what became of a ticket; returns the ticket's status now ('gone' if it was deleted).

        Raises ClaimLost. Safe to repeat after a lost reply: an outcome that has been written counts as written.
        """
        kind, code, error, sent, proof, extra = _told(outcome)
        cleared = isinstance(outcome, Uncertain) and outcome.cleared
        extra["possible_duplicate"] = possible_duplicate
        row = self.database.run(
            self.sql.settle,
            ticket=ticket,
            token=token,
            outcome=kind,
            code=code,
            error=error,
            sent=sent,
            cleared=cleared,
            proof=proof,
            duration=duration_ms,
            asked=asked,
            instance=self.instance,
            metadata=Json(extra),
        )[0]
        if row.settled:
            return row.status or "gone"
        if written := self.database.run(self.sql.settled, ticket=ticket, token=token):
            return written[0].status
        raise ClaimLost

    def release(self, claims: Iterable[tuple[TicketId, Token]], text: str) -> GivenBack:
        """Give claimed tickets back, unmarked."""
        pairs = list(claims)
        if not pairs:
            return GivenBack(0, frozenset())
        row = self.database.run(
            self.sql.release,
            tickets=[ticket for ticket, _ in pairs],
            tokens=[token for _, token in pairs],
            text=text,
            instance=self.instance,
        )[0]
        return GivenBack(row.released, frozenset(row.left))

    def settle_unsent(self, ticket: TicketId, token: Token) -> None:
        """Give a ticket back of which no byte has left, whether or not its promise was committed."""
        self.database.run(self.sql.unsent, ticket=ticket, token=token, instance=self.instance)

    def reconcile(self, key: PrinterKey, held: Iterable[Token]) -> Reconciled:
        """Give back what is claimed for my printer and held by nobody."""
        tokens = sorted(held)
        row = self.database.run(self.sql.reconcile, me=self.me, key=key, held=tokens, instance=self.instance)[0]
        slips = self.database.run(self.sql.reconcile_slips, me=self.me, key=key, held=tokens)
        return Reconciled(row.released + len(slips), row.left)

    def end_round(
        self, tickets: Sequence[Waiting], *, ip: str, code: str, error: str, delay_s: float, budget: int
    ) -> list[Ended]:
        """No printer is left for these tickets in this round: retry after `delay_s`, or `failed` after the last."""
        rows = self.database.run(
            self.sql.end_round, **_seen(tickets), ip=ip, code=code, error=error, delay=delay_s, budget=budget,
            instance=self.instance,
        )  # fmt: skip
        return [Ended(row.id, row.status, row.print_attempts) for row in rows]

    def give_up(
        self,
        tickets: Sequence[Waiting | OldTicket],
        *,
        code: str,
        error: str,
        rescue: bool,
        limit: float = CALL_LIMIT_S,
    ) -> list[TicketId]:
        """`failed` at once; returns those that it took effect on."""
        rows = self.database.run(
            self.sql.give_up, **_seen(tickets), code=code, error=error, rescue=rescue, instance=self.instance,
            limit=limit,
        )  # fmt: skip
        return [row.id for row in rows]

    def wait(self, tickets: Sequence[Waiting]) -> None:
        """Remember since when these tickets have been waiting for a printer row."""
        self.database.run(self.sql.wait, **_seen(tickets))

    def stale(
        self,
        horizon: Horizon,
        size: int,
        *,
        since: float,
        passed: Collection[TicketId],
        stations: frozenset[str],
        brands: frozenset[str],
    ) -> list[OldTicket]:
        """The `size` oldest `new` tickets behind the horizon, from `since` on and without those that were passed."""
        rows = self.database.run(
            self.sql.stale, before=horizon.before, up_to=horizon.up_to, since=since, passed=sorted(passed), size=size,
            stations=sorted(stations), brands=sorted(brands), limit=PATIENT_S + 5.0,
        )  # fmt: skip
        return [OldTicket(row.id, row.token, row.at, row.stale, row.reset) for row in rows]

    def pos_behind_s(self) -> float | None:
        """Seconds by which the POS's clock is behind the database's, as far as anybody has learned; None = nobody."""
        row = self.database.run(self.sql.pos_clock)[0]
        return row.behind_s if row.known else None

    def learn_pos_clock(self, behind_s: float) -> None:
        """Remember it for all."""
        self.database.run(self.sql.learn_pos_clock, behind=behind_s)

    def next_due(self) -> float | None:
        """Seconds until the next round of a waiting ticket is due; None = none waits."""
        rows = self.database.run(self.sql.next_due)
        return rows[0].due_s if rows else None

    def rescuable(self, minutes: float) -> list[tuple[TicketId, Token, str, str]]:
        """Tickets that failed only for want of a printer: (id, token, station, brand)."""
        rows = self.database.run(self.sql.rescuable, minutes=minutes)
        return [(row.id, row.token, row.station, row.brand or "") for row in rows]

    def rescue(self, tickets: Sequence[tuple[TicketId, Token]]) -> list[TicketId]:
        """failed -> new, for one more round."""
        rows = self.database.run(
            self.sql.rescue,
            ids=[ticket for ticket, _ in tickets],
            tokens=[token for _, token in tickets],
            instance=self.instance,
        )
        return [row.id for row in rows]

    def devices(self, keys: Iterable[PrinterKey]) -> dict[PrinterKey, tuple[DeviceState, str, int]]:
        """What is known about devices: state, owner uuid ('' = nobody) and epoch."""
        found = {}
        for row in self.database.run(self.sql.printers, keys=list(keys)):
            key = row.printer_key
            state = DeviceState(key, row.state, row.state_text, row.live, row.lapsed_s, row.held_by or "")
            found[key] = (state, row.owner or "", row.epoch)
        return found

    def set_state(
        self,
        key: PrinterKey,
        epoch: int,
        *,
        state: str,
        text: str,
        paper: str,
        response_ms: int | None,
        answers: bool | None,
        cover_open: bool | None = None,
        cutter_ok: bool | None = None,
    ) -> bool:
        """Say what the device of mine is like; False if it is not mine any more."""
        rows = self.database.run(
            self.sql.set_state,
            key=key,
            me=self.me,
            epoch=epoch,
            state=state,
            text=text,
            paper=paper,
            response=response_ms,
            answers=answers,
            cover_open=cover_open,
            cutter_ok=cutter_ok,
        )
        return bool(rows)

    def say_why(self, rows: Mapping[int, tuple[PrinterKey, str]], *, news: bool = True) -> frozenset[int]:
        """Say in printer rows (id -> its device, the reason) why they cannot print; returns those that say it now.

        A row that somebody is writing is left out, and one whose device has another owner. What is no `news` is not
        said again within a minute.
        """
        found = self.database.run(
            self.sql.say_why, rows=list(rows), keys=[key for key, _ in rows.values()],
            texts=[text for _, text in rows.values()], me=self.me, news=news,
        )  # fmt: skip
        return frozenset(row.id for row in found)

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


def _scope(among: Among) -> dict[str, Any]:
    return {"since": among.since, "above": among.above, "ids": sorted(among.ids)}


def _seen(tickets: Sequence[Waiting | OldTicket]) -> dict[str, Any]:
    return {"ids": [ticket.id for ticket in tickets], "tokens": [ticket.token for ticket in tickets]}


def _waiting(row: Looked) -> Waiting:
    return Waiting(
        id=row.id,
        token=row.token,
        station=row.station,
        brand=row.brand or "",
        brand_code=row.brand_code or "",
        items=row.items,
        original_items=None if row.original_ticket_id is None else row.original_items,
        round_open=row.round_open,
        tried=frozenset(row.tried) if row.round_open else frozenset(),
        forced_printer=row.forced_printer or "",
        age_s=row.age_s,
        untried=row.token == 0 and row.print_attempts == 0,
        waited_s=row.waited_s,
        unroutable_noted=row.unrouted,
    )


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


def _device_of(row: PosRow, site: str) -> str:
    """The key of a printer row's device; '' where that would take a name server."""
    try:
        return printer_key(site, device_address(row.host or "", row.port))
    except ValueError:
        return ""


def printer_rows(rows: Iterable[PosRow], key: Mapping[int, PrinterKey]) -> list[PrinterRow]:
    """Printer rows with the keys of their devices (row id -> key)."""
    return [
        PrinterRow(
            id=row.id,
            station=row.station,
            brand=row.brand,
            brand_code=row.brand_code,
            brand_name=row.brand_name,
            name=row.name,
            address=device_address(row.host or "", row.port),
            kind=row.kind,
            timeout_s=float(row.timeout_s),
            priority=row.priority,
            active=row.active,
            key=key.get(row.id, PrinterKey("")),
        )
        for row in rows
    ]
