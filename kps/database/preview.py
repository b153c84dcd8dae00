"""What the next copy of a ticket would be made of. Promises and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from kps.core.address import device_address, printer_key
from kps.core.tickets import PaperFormat, Ticket, TicketId
from kps.database.connection import Database
from kps.database.pos import PosAdapter
from kps.database.row_mappers import paper_of, ticket_of
from kps.database.statements import Statements
from kps.database.statements.printer_rows import PosRow


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


def preview(
    database: Database,
    pos: PosAdapter,
    ticket: TicketId,
    printer: str = "",
    *,
    site: str = "",
    late_after_minutes: float = 5.0,
    day_start_minutes: int = 240,
) -> Previewed | None:
    """What the next copy of a ticket would say at the printer of that name; None = there is no such ticket.

    Without a name: at the printer that had it last, else at the first of its route. Raises UnknownPrinter and
    DatabaseTrouble.
    """
    sql = Statements(pos)
    found = database.run(sql.whereabouts, ticket=ticket)
    if not found:
        return None
    where = found[0]
    rows = database.run(sql.rows)
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
    written = database.run(
        sql.preview,
        ticket=ticket,
        row=None if chosen is None else chosen.id,
        name="" if chosen is None else chosen.name,
        key="" if chosen is None else _device_of(chosen, site),
        backup_for=along[0].name if backup else "",
        day_start=day_start_minutes,
    )
    if not written:
        return None
    row = written[0]
    return Previewed(ticket_of(ticket, row, late_after_minutes), paper_of(row), row.printer_name)


def _device_of(row: PosRow, site: str) -> str:
    """The key of a printer row's device; '' where that would take a name server."""
    try:
        return printer_key(site, device_address(row.host or "", row.port))
    except ValueError:
        return ""
