"""The dispatcher's verbs: look, claim, end a round, give up, rescue; what it must know of devices and clocks; slips."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kps.core.backlog import Among, Horizon, OldTicket, Survey
from kps.core.routing import ALL_SERVED, ClaimFor, DeviceState, Served, Waiting
from kps.core.slips import SlipId
from kps.core.tickets import PrinterKey, TicketId, Token
from kps.core.work import Seen, Work, WorkKind
from kps.database.connection import CALL_LIMIT_S
from kps.database.role import Role
from kps.database.statements.dispatching import PATIENT_S, Looked


@dataclass(frozen=True, slots=True)
class Claimed:
    """Something that was claimed for one of our printers: a ticket has become `printing`."""

    key: PrinterKey
    work: Work


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What has become of claims for a printer that its process does not have in hand."""

    released: int
    """So many have been given back."""
    left: int
    """So many have to be given back later: their rows are locked."""


@dataclass(frozen=True, slots=True)
class SlipsMade:
    """The result of a look for events that stations must know of."""

    count: int
    any_open: bool
    """Whether there are slips that wait to be printed, these or earlier ones."""
    tickets_wait: bool
    """Whether any ticket is `new`."""


@dataclass(frozen=True, slots=True)
class WaitingSlip:
    """A slip that no printer process has now."""

    id: SlipId
    token: Token
    kind: str
    station: str
    brand: str
    target: PrinterKey
    """The only device that may print it; empty = the route of its station and brand."""
    over: bool
    """It is too old to be of use, or was given to printers too often."""
    waits: bool
    """It is to be tried again a little later."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A ticket whose round has ended: `failed`, or waiting for the next."""

    ticket: TicketId
    status: str
    attempts: int


class DispatcherQueue(Role):
    """What is decided on, and for which printer."""

    _skipped = 0
    """The connection on which tokens were left out; a claim never uses another."""

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
        """A survey that has found nothing: a look beside it sees only the tickets that come from now on."""
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

    def claim(self, kind: WorkKind, wanted: Sequence[tuple[Seen, ClaimFor, int]]) -> list[Claimed]:
        """Claim open work of a kind for printers and their epochs; what has changed meanwhile is left out."""
        self._skip_tokens()
        rows = self.database.run(
            self.sql.of(kind).claim,
            ids=[seen.id for seen, _, _ in wanted],
            tokens=[seen.token for seen, _, _ in wanted],
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
        return [Claimed(row.printer_key, Work(kind, row.id, row.token)) for row in rows]

    def _skip_tokens(self) -> None:
        """Before the first claim of a connection: a crash of the server may have taken back the last tokens."""
        if not self.database.connected:
            self.database.connect()
        if self._skipped != self.database.opened:
            self.database.run(self.sql.skip_tokens)
            self._skipped = self.database.opened

    def reconcile(self, key: PrinterKey, in_hand: Iterable[Token]) -> Reconciled:
        """Give back what is claimed for a printer of this instance, but for what its process has in hand."""
        tokens = sorted(in_hand)
        rows = [
            self.database.run(
                self.sql.of(kind).reconcile, me=self.me, key=key, held=tokens, instance=self.instance
            )[0]
            for kind in WorkKind
        ]  # fmt: skip
        return Reconciled(sum(row.released for row in rows), sum(len(row.left) for row in rows))

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
        kind: WorkKind,
        open_work: Sequence[Seen],
        *,
        error: str,
        code: str = "",
        rescue: bool = False,
        limit: float = CALL_LIMIT_S,
    ) -> list[int]:
        """`failed` at once; returns the ids of those that it took effect on.

        `code` and `rescue` (a later printer row may save it) are a ticket's.
        """
        rows = self.database.run(
            self.sql.of(kind).give_up, **_seen(open_work), code=code, error=error, rescue=rescue,
            instance=self.instance, limit=limit,
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

    def pos_behind_s(self) -> float | None:
        """Seconds by which the POS's clock is behind the database's; None = no instance has learned it yet."""
        row = self.database.run(self.sql.pos_clock)[0]
        return row.behind_s if row.known else None

    def learn_pos_clock(self, behind_s: float) -> None:
        """Remember it for all."""
        self.database.run(self.sql.learn_pos_clock, behind=behind_s)

    def devices(self, keys: Iterable[PrinterKey]) -> dict[PrinterKey, tuple[DeviceState, str, int]]:
        """What is known about devices: state, owner uuid ('' = no owner) and epoch."""
        found = {}
        for row in self.database.run(self.sql.printers, keys=list(keys)):
            key = row.printer_key
            state = DeviceState(key, row.state, row.state_text, row.live, row.lapsed_s, row.held_by or "")
            found[key] = (state, row.owner or "", row.epoch)
        return found

    def make_slips(
        self,
        *,
        minutes: float,
        stations: frozenset[str] | None,
        own_stations: frozenset[str] = frozenset(),
        own_brands: frozenset[str] = frozenset(),
    ) -> SlipsMade:
        """Make a slip of each event that a station must know of.

        Changes older than `minutes`, and of other stations than these (None = all), get no slip. An instance that is
        limited to some stations or brands (empty = not) leaves the others' alone.
        """
        limited = stations is not None
        row = self.database.run(
            self.sql.make_slips, minutes=minutes, limited=limited, stations=sorted(stations or ()),
            own_stations=sorted(own_stations), own_brands=sorted(own_brands),
        )[0]  # fmt: skip
        return SlipsMade(row.made, bool(row.made or row.waiting), row.tickets_wait)

    def look_slips(self) -> list[WaitingSlip]:
        """Slips that no printer process has now, oldest first."""
        return [
            WaitingSlip(
                row.id, row.token, row.kind, row.station, row.brand, row.target,
                row.over, bool(row.waits),
            )
            for row in self.database.run(self.sql.look_slips)
        ]  # fmt: skip


def _scope(among: Among) -> dict[str, Any]:
    return {"since": among.since, "above": among.above, "ids": sorted(among.ids)}


def _seen(open_work: Sequence[Seen]) -> dict[str, Any]:
    return {"ids": [seen.id for seen in open_work], "tokens": [seen.token for seen in open_work]}


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
