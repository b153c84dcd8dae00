"""The real service under seeded faults, and the table of what became of its tickets.

    python -m tests.chaos [--seed N] [--seconds S] [--instances K ...] [--rate R] [--naive | --beside]
                          [--outages] [--plan]

A long run is cut into rounds of at most ROUND_S seconds, each with a fresh shop and the next seed. The seed is printed
first; `--seed` with the printed number, and the same seconds and instances, makes the same plan of faults again.
The exit code is 1 if KPS broke a promise.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg2

from kps.demo.orders import PosWriter
from tests.chaos.devices import ROUTES
from tests.chaos.faults import Injector
from tests.chaos.paper import Kind, Piece, SlipPiece, read
from tests.chaos.plan import KINDS, plan
from tests.chaos.shop import DRAWN, Belongings, ChaosShop, Design, belongings, open_shop
from tests.chaos.slips import Item, Slip, SlipVerdict, judge_slips
from tests.chaos.verdict import Ticket, Verdict, judge
from tests.names import lacking

ROUND_S: Final = 120.0
READY_LIMIT_S: Final = 90.0
QUIET_LIMIT_S: Final = 120.0
"""Longest time without progress. Generous: nothing is measured by it, and a back-off alone may take 30 s."""
QUIET_LOOKS: Final = 3
"""So many looks in a row must find nothing left to do."""
LOOK_S: Final = 0.25
COLUMNS: Final = (
    "tickets", "faults", "failed", "lost", "sent, not on paper", "unmarked", "marked", "inversions", "overlaps",
    "leftovers", "slips", "failed slips", "missing slips", "unmarked slips", "marked slips", "false alarms",
)  # fmt: skip


class NotReady(Exception):
    """The shop did not become ready, before any fault; the message says what was missing."""


@dataclass(frozen=True, slots=True)
class Round:
    """The result of one run of faults."""

    seed: int
    instances: int
    design: Design
    verdict: Verdict
    slips: SlipVerdict | None
    """None for a design without slips."""
    faults: Counter[str]
    missed: int
    overlaps: list[str]
    """Printers on which two connections ever wrote at the same time."""
    leftovers: list[str]
    """What was left at the end, in words: open work, and processes or connections that were not there at the start."""
    notes: list[str] = field(default_factory=list)
    outages: bool = False
    """The plan left stations without a printer: then tickets may fail, visibly."""

    @property
    def broken(self) -> list[str]:
        """The promises that were broken, in words; empty = none."""
        found = self.verdict
        columns: tuple[tuple[str, Sequence[object]], ...] = (
            ("lost", found.lost), ("sent, not on paper", found.sent_only), ("unmarked second copy", found.unmarked),
            ("inverted", found.inversions), ("two writers at", self.overlaps), ("left over", self.leftovers),
            ("on paper, and of no ticket", found.strangers),
        )  # fmt: skip
        if self.slips is not None:
            columns += (
                ("changes without their slip", self.slips.missing), ("unmarked second slip", self.slips.unmarked),
                ("false alarm", self.slips.false_alarms),
            )  # fmt: skip
        failed = (
            [f"{found.failed} failed, though its station had a printer"] if found.failed and not self.outages else []
        )
        return failed + [f"{len(which)} {what}: {_first(which)}" for what, which in columns if which]


def _first(which: Sequence[object], count: int = 12) -> str:
    return ", ".join(map(str, which[:count])) + (" ..." if len(which) > count else "")


def run_round(
    seed: int,
    seconds: float,
    instances: int,
    rate: float,
    design: Design = Design.KPS,
    *,
    outages: bool = False,
    folder: Path | None = None,
) -> Round:
    """Open a chaos shop, take orders under the plan's faults for `seconds`, wait until all is done, and judge.

    `folder` keeps the services' logs; without it a temporary one is used. Raises NotReady.
    """
    with tempfile.TemporaryDirectory(prefix="kps-chaos-") as temporary:
        place = folder or Path(temporary)
        with open_shop(design, instances, rate, seed, place) as shop:
            _wait(shop, lambda: _not_ready(shop), READY_LIMIT_S)
            for station in ("kitchen", "bar", "dessert", "checker"):
                shop.till.ring_up(station)
            if unfinished := _wait(shop, lambda: _unfinished(shop), READY_LIMIT_S, fail=False):
                raise NotReady("; ".join(unfinished))
            before = belongings(shop)
            injector = Injector(shop)
            shop.till.start()
            injector.carry_out(plan(seed, seconds, instances, outages=outages), seconds)
            shop.till.stopping.set()
            shop.till.join()
            ended = time.monotonic()
            leftovers = _wait(shop, lambda: _unsettled(shop, before), QUIET_LIMIT_S, fail=False)
            quiet_s = time.monotonic() - ended
            tickets = _tickets(shop)
            items, slips = ([], []) if design is Design.NAIVE else (items_of(shop.pos), _slips(shop))
            notes = [f"quiet after {quiet_s:.0f} s", *_notes(shop)]
            codes = [instance.end() for instance in shop.instances]
            leftovers += [f"exit code {code} of an instance" for code in codes if design is Design.KPS and code != 0]
            leftovers += [
                f"{role} outlives its instance" for one in shop.instances for role in one.processes().values()
            ]
            for printer in shop.printers.values():
                printer.stop()
            papers = {
                name: read(name, [paper.shown for paper in printer.papers]) for name, printer in shop.printers.items()
            }
            overlaps = [name for name, printer in shop.printers.items() if printer.concurrent_writers_seen]
    pieces = {name: [one for one in found if isinstance(one, Piece)] for name, found in papers.items()}
    slip_verdict = None if design is Design.NAIVE else _judge_slips(items, tickets, pieces, slips, papers)
    verdict = judge(tickets, pieces)
    return Round(
        seed, instances, design, verdict, slip_verdict, +injector.hit, injector.missed, overlaps, leftovers, notes,
        outages,
    )  # fmt: skip


def _judge_slips(
    items: Sequence[Item],
    tickets: Sequence[Ticket],
    pieces: Mapping[str, Sequence[Piece]],
    slips: Sequence[Slip],
    papers: Mapping[str, Sequence[Piece | SlipPiece]],
) -> SlipVerdict:
    on_paper = [one for found in papers.values() for one in found if isinstance(one, SlipPiece)]
    stations = {station for station, _ in ROUTES}
    routes = {station: frozenset(name for of, name in ROUTES if of == station) for station in stations}
    return judge_slips(items, tickets, [one for found in pieces.values() for one in found], slips, on_paper, routes)


# -- waiting -------------------------------------------------------------------------------------------------------


def _wait(shop: ChaosShop, missing: Callable[[], list[str]], limit_s: float, *, fail: bool = True) -> list[str]:
    """Until `missing()` finds nothing, QUIET_LOOKS times in a row.

    Returns what is missing still when it has not become less for `limit_s`; raises NotReady instead if `fail`.
    """
    deadline = time.monotonic() + limit_s
    calm = 0
    last: list[str] = []
    least = sys.maxsize
    while calm < QUIET_LOOKS:
        shop.keep_running()
        shop.free_cutters()
        try:
            last = missing()
        except psycopg2.Error as error:
            last = [f"the database: {error}"]
        calm = 0 if last else calm + 1
        if len(last) < least:
            least, deadline = len(last), time.monotonic() + limit_s
        if last and time.monotonic() > deadline:
            if fail:
                raise NotReady("; ".join(last))
            return last
        time.sleep(LOOK_S)
    return []


def _not_ready(shop: ChaosShop) -> list[str]:
    """What still keeps the instances from printing."""
    if shop.design is Design.NAIVE:
        return []
    found = []
    rows = shop.pos.rows("SELECT name, state, expires_at > clock_timestamp() AS live FROM kps.printer")
    found += [f"{row['name']} is {row['state']}" for row in rows if row["state"] != "ready" or not row["live"]]
    listening = shop.pos.rows(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'kps:dispatcher:listen'"
    )[0]["n"]
    if listening != len(shop.instances):
        found.append(f"{listening} of {len(shop.instances)} dispatchers listen")
    return found


def _unfinished(shop: ChaosShop) -> list[str]:
    """Open work about tickets and slips."""
    rows = shop.pos.rows("SELECT id, status FROM kitchen_kitchenticket WHERE status IN ('new', 'printing') ORDER BY id")
    found = [f"ticket {row['id']} is {row['status']}" for row in rows]
    if shop.design is Design.NAIVE:
        return found
    jobs = shop.pos.rows("SELECT ticket_id, state FROM kps.job WHERE state IN ('claimed', 'sending')")
    found += [f"job {row['ticket_id']} is {row['state']}" for row in jobs]
    waiting = shop.pos.rows(
        "SELECT j.ticket_id FROM kps.job j JOIN kitchen_kitchenticket t ON t.id = j.ticket_id"
        " WHERE j.unreached AND t.status = 'failed'"
    )
    found += [f"ticket {row['ticket_id']} may be rescued" for row in waiting]
    return found + [f"{row['what']} has no slip yet" for row in shop.pos.rows(_OPEN_SLIPS)]


_OPEN_SLIPS: Final = """SELECT 'slip ' || id AS what FROM kps.slip WHERE state IN ('new', 'claimed', 'sending')
UNION ALL
SELECT 'that ticket ' || ticket_id || ' went elsewhere' FROM kps.job
 WHERE backup_for_key NOT IN ('', printer_key) AND NOT elsewhere_told AND state = 'printed'
UNION ALL
SELECT 'a change of item ' || pi.bill_item_id FROM kps.printed_item pi
  JOIN kps.job j ON j.ticket_id = pi.ticket_id AND j.state = 'printed'
  JOIN pos_billitem bi ON bi.id = pi.bill_item_id JOIN pos_bill b ON b.id = bi.bill_id
  LEFT JOIN tables_table tb ON tb.id = b.table_id
 WHERE pi.told = '' AND b.status <> 'paid'
   AND (bi.is_void OR b.status = 'cancelled' OR b.id <> pi.bill_id OR coalesce(tb.number, '') <> pi.table_number)"""
"""Changes that the service has to find, and slips that are not printed yet."""


def _unsettled(shop: ChaosShop, before: Belongings) -> list[str]:
    """What is still different from before the faults."""
    return _unfinished(shop) + _not_ready(shop) + belongings(shop).beyond(before)


# -- what became of the tickets ------------------------------------------------------------------------------------

_PROMPT: Final = ["print_start", "print_success"]
"""The log of a ticket that never waited: claimed once, proven once, and nothing in between."""


def _tickets(shop: ChaosShop) -> list[Ticket]:
    if shop.design is Design.NAIVE:
        rows = shop.pos.rows(
            "SELECT t.id, b.queue_number AS queue, t.status, t.printer_target AS station,"
            " t.print_attempts > 1 AS waited"
            " FROM kitchen_kitchenticket t JOIN pos_bill b ON b.id = t.bill_id ORDER BY t.id"
        )
        return [
            Ticket(
                row["id"],
                row["queue"],
                row["station"],
                row["status"],
                waited=row["waited"] or row["id"] in shop.locked,
            )
            for row in rows
        ]
    rows = shop.pos.rows(
        "SELECT t.id, b.queue_number AS queue, t.printer_target AS station, t.status, coalesce(j.proof, '') AS proof,"
        "  coalesce(j.sends, 0) AS sends, EXISTS (SELECT 1 FROM kitchen_kitchenticketitem i"
        "    JOIN pos_billitem bi ON bi.id = i.bill_item_id JOIN core_product p ON p.id = bi.product_id"
        "    WHERE i.kitchen_ticket_id = t.id AND NOT bi.is_void AND p.name = ANY(%s)) AS drawn,"
        "  (SELECT array_agg(l.action ORDER BY l.id) FROM kitchen_kitchenticketlog l"
        "    WHERE l.ticket_id = t.id AND l.action <> 'created') AS actions"
        " FROM kitchen_kitchenticket t JOIN pos_bill b ON b.id = t.bill_id LEFT JOIN kps.job j ON j.ticket_id = t.id"
        " ORDER BY t.id",
        [list(DRAWN)],
    )
    return [
        Ticket(
            row["id"], row["queue"], row["station"], row["status"], row["proof"],
            waited=row["actions"] != _PROMPT or row["id"] in shop.locked, sends=row["sends"], drawn=row["drawn"],
        )
        for row in rows
    ]  # fmt: skip


def items_of(pos: PosWriter) -> list[Item]:
    """All items of all tickets, as they are at the end. The new item of a split bill is on no ticket."""
    rows = pos.rows(
        "SELECT o.queue_number AS queue, p.name AS dish, bi.is_void, b.status, b.id <> o.id AS merged,"
        "  coalesce(tb.number::int, 0) AS at"
        " FROM kitchen_kitchenticket t JOIN pos_bill o ON o.id = t.bill_id"
        " JOIN kitchen_kitchenticketitem i ON i.kitchen_ticket_id = t.id"
        " JOIN pos_billitem bi ON bi.id = i.bill_item_id JOIN core_product p ON p.id = bi.product_id"
        " JOIN pos_bill b ON b.id = bi.bill_id LEFT JOIN tables_table tb ON tb.id = b.table_id"
        " ORDER BY i.id"
    )
    return [
        Item(
            row["queue"], row["dish"], row["dish"] in DRAWN, row["is_void"], row["status"], row["merged"], row["at"]
        )
        for row in rows
    ]  # fmt: skip


def _slips(shop: ChaosShop) -> list[Slip]:
    """All slips. Items are looked up by what the slip says of them; one that is not found gets queue number 0."""
    rows = shop.pos.rows(
        "SELECT s.id, s.kind, s.state, s.station, s.content, array_agg(o.queue_number ORDER BY e.place) AS queues"
        " FROM kps.slip s"
        " LEFT JOIN LATERAL jsonb_array_elements(s.content->'items') WITH ORDINALITY AS e(item, place) ON true"
        " LEFT JOIN kps.printed_item pi ON pi.station = s.station"
        "   AND pi.printed_at = (e.item->>'printed_at')::timestamptz"
        " LEFT JOIN kitchen_kitchenticket t ON t.id = pi.ticket_id LEFT JOIN pos_bill o ON o.id = t.bill_id"
        " GROUP BY s.id ORDER BY s.id"
    )
    return [_slip(row) for row in rows]


def _slip(row: Mapping[str, Any]) -> Slip:
    kind, content = Kind(row["kind"]), row["content"]
    items = content.get("items", [])
    return Slip(
        row["id"],
        kind,
        row["state"],
        row["station"],
        int((content["table"] if kind is Kind.MOVED else content.get("queue_number")) or 0),
        tuple((queue or 0, item["name"]) for queue, item in zip(row["queues"], items, strict=False)),
        tuple(item["number"] for item in items),
    )


_FAILED: Final = """SELECT t.id, t.error_message,
       string_agg(round(extract(epoch FROM l.timestamp - t.created_at)::numeric, 1) || ' s '
                  || concat_ws(' ', l.action, nullif(l.error_code, ''), l.metadata->>'printer_name'),
                  ', ' ORDER BY l.id) AS history
  FROM kitchen_kitchenticket t LEFT JOIN kitchen_kitchenticketlog l ON l.ticket_id = t.id
 WHERE t.status = 'failed' GROUP BY t.id ORDER BY t.id LIMIT 5"""
"""The first five failed tickets, each with its history in seconds after the order."""


def _notes(shop: ChaosShop) -> list[str]:
    """Remarks that help to read the table."""
    restarts = sum(instance.restarts for instance in shop.instances)
    notes = [f"instances started again: {restarts}"]
    if shop.design is Design.KPS:
        if shop.names is None:
            notes.append(f"no fault of a name server, for this machine lacks {lacking()}")
        rows = shop.pos.rows("SELECT name, proof_level FROM kps.printer ORDER BY name")
        notes.append("proof levels in the end: " + ", ".join(f"{row['name']} {row['proof_level']}" for row in rows))
        proofs = shop.pos.rows(
            "SELECT coalesce(proof, 'none yet') AS proof, count(*) AS n FROM kps.job GROUP BY 1 ORDER BY 2 DESC"
        )
        slips = shop.pos.rows("SELECT kind, count(*) AS n FROM kps.slip GROUP BY 1 ORDER BY 1")
        notes.append("slips: " + ", ".join(f"{row['kind']} {row['n']}" for row in slips))
        notes.append("tickets by proof: " + ", ".join(f"{row['proof']} {row['n']}" for row in proofs))
    notes += [f"ticket {row['id']} failed: {row['error_message']} ({row['history']})" for row in shop.pos.rows(_FAILED)]
    return notes


# -- the tables ----------------------------------------------------------------------------------------------------


def summary(rounds: Sequence[Round]) -> str:
    """A Markdown table, one row per design and number of instances."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---|" + "--:|" * len(COLUMNS)]
    for design, instances in _rows(rounds):
        mine = [one for one in rounds if (one.design, one.instances) == (design, instances)]
        found = [one.verdict for one in mine]
        columns = (
            sum(one.tickets for one in found),
            sum(sum(one.faults.values()) for one in mine),
            sum(one.failed for one in found),
            sum(len(one.lost) for one in found),
            sum(len(one.sent_only) for one in found),
            sum(len(one.unmarked) for one in found),
            sum(one.marked for one in found),
            sum(len(one.inversions) for one in found),
            sum(len(one.overlaps) for one in mine),
            sum(len(one.leftovers) for one in mine),
        )
        cells = [f"{column:,}" for column in columns] + _slip_cells(mine)
        lines.append(f"| {_name(design, instances)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _slip_cells(rounds: Sequence[Round]) -> list[str]:
    """The columns about slips; dashes for a design without slips."""
    found = [one.slips for one in rounds if one.slips is not None]
    if not found:
        return ["-"] * 6
    columns = (
        sum(one.slips for one in found),
        sum(one.failed for one in found),
        sum(len(one.missing) for one in found),
        sum(len(one.unmarked) for one in found),
        sum(one.marked for one in found),
        sum(len(one.false_alarms) for one in found),
    )
    return [f"{column:,}" for column in columns]


def faults_by_kind(rounds: Sequence[Round]) -> str:
    """A Markdown table of the faults that found their target."""
    rows = _rows(rounds)
    lines = ["| fault | " + " | ".join(_name(*row) for row in rows) + " |", "|---|" + "--:|" * len(rows)]
    for kind in KINDS:
        counts = [
            sum(one.faults[kind] for one in rounds if (one.design, one.instances) == row) for row in rows
        ]  # fmt: skip
        lines.append(f"| {kind} | " + " | ".join(str(count) for count in counts) + " |")
    return "\n".join(lines)


def _rows(rounds: Iterable[Round]) -> list[tuple[Design, int]]:
    return list(dict.fromkeys((one.design, one.instances) for one in rounds))


def _name(design: Design, instances: int) -> str:
    of = "KPS" if design is Design.KPS else "naive loop"
    return f"{of}, {instances} instance{'s' if instances > 1 else ''}"


# -- the command ---------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the tables, and return 1 if KPS broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="makes the same plan again; without it a random one")
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults, for each number of instances")
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--rate", type=float, default=50.0, help="tickets per second")
    parser.add_argument("--naive", action="store_true", help="the naive loop instead of KPS")
    parser.add_argument("--beside", action="store_true", help="the naive loop too, under the same plans")
    parser.add_argument("--outages", action="store_true", help="let both printers of a station be away at once")
    parser.add_argument("--plan", action="store_true", help="print the plan of the first round, and do nothing")
    parser.add_argument("--logs", type=Path, help="an empty folder that keeps the logs of all rounds")
    chosen = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1_000_000) if chosen.seed is None else chosen.seed
    print(f"seed {seed}", flush=True)
    if chosen.plan:
        print(*plan(seed, min(chosen.seconds, ROUND_S), chosen.instances[0], outages=chosen.outages), sep="\n")
        return 0
    designs = [Design.NAIVE] if chosen.naive else [Design.KPS, *([Design.NAIVE] if chosen.beside else [])]
    rounds = []
    for design in designs:
        for instances in chosen.instances:
            for number, seconds in enumerate(_lengths(chosen.seconds)):
                folder = chosen.logs / f"{design.name.lower()}-{instances}-{number}" if chosen.logs else None
                one = run_round(
                    seed + number, seconds, instances, chosen.rate, design, outages=chosen.outages, folder=folder
                )
                rounds.append(one)
                _print_round(one, seconds)
    print(f"\n{summary(rounds)}\n\n{faults_by_kind(rounds)}")
    return 1 if any(one.broken for one in rounds if one.design is Design.KPS) else 0


def _lengths(seconds: float) -> list[float]:
    """Rounds of at most ROUND_S."""
    rounds = max(1, -(-int(seconds) // int(ROUND_S)))
    return [seconds / rounds] * rounds


def _print_round(one: Round, seconds: float) -> None:
    found = one.verdict
    print(
        f"{_name(one.design, one.instances)}, seed {one.seed}, {seconds:g} s: {found.tickets} tickets, "
        f"{sum(one.faults.values())} faults ({one.missed} missed), {found.failed} failed, {len(found.lost)} lost, "
        f"{len(found.unmarked)} unmarked, {found.marked} marked, "
        f"{found.torn} torn ({found.torn_pictures} of them in a picture); {'; '.join(one.notes)}",
        flush=True,
    )
    if one.design is Design.KPS:
        for line in one.broken:
            print(f"  BROKEN {line}", flush=True)
