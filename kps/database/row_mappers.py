"""Rows of the database -> what is to be printed: a ticket with all that its paper says, or a slip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, assert_never

from kps.core.address import device_address
from kps.core.process_ids import ProcessIds
from kps.core.routing import PrinterRow
from kps.core.slips import (
    CatchUpSlip,
    ChangedItem,
    ChangeKind,
    ChangeSlip,
    ElsewhereTicket,
    OutageSlip,
    Slip,
    SlipContent,
    SlipKind,
)
from kps.core.tickets import (
    Before,
    Chain,
    Item,
    Marks,
    PaperFormat,
    PrinterKey,
    Reprint,
    Sibling,
    Ticket,
    TicketId,
)
from kps.core.work import Promised
from kps.database.pos.values import modifiers, priority, template
from kps.database.statements.paper import Paper
from kps.database.statements.printer_rows import PosRow
from kps.database.statements.slips import SlipPaper


def promised_ticket(ticket: TicketId, row: Paper, late_after_minutes: float) -> Promised:
    """A row of a ticket's promise."""
    content = ticket_of(ticket, row, late_after_minutes)
    return Promised(content, paper_of(row), ProcessIds(row.process_id), row.sends)


def promised_slip(row: SlipPaper) -> Promised:
    """A row of a slip's promise."""
    content = Slip(
        id=row.id,
        content=_slip_content(row),
        printed_now=row.printed_now,
        timezone=row.timezone,
        possible_duplicate=row.sends > 1,
        check_printers=tuple(row.maybe_at),
    )
    return Promised(content, paper_of(row), ProcessIds(row.process_id), row.sends)


def ticket_of(ticket: TicketId, row: Paper, late_after_minutes: float) -> Ticket:
    """What the paper of a ticket says, by a row of its promise or of a preview."""
    checker = row.station.strip().lower() == "checker"
    pos_behind = timedelta(seconds=row.pos_behind_s)
    age_minutes = (row.printed_now - row.created_at - pos_behind).total_seconds() / 60
    return Ticket(
        id=ticket,
        station=row.station,
        checker=checker,
        created_at=row.created_at,
        printed_now=row.printed_now,
        timezone=row.timezone,
        bill_number=row.bill_number,
        bill_type=row.bill_type,
        table=row.table_number,
        queue_number=row.queue_number,
        customer_name=row.customer_name,
        guest_count=row.guest_count,
        bill_notes=row.bill_notes,
        waiter=row.waiter,
        items=tuple(_item(item) for item in row.items or ()),
        template=template(row.template, checker),
        marks=_marks(row, int(age_minutes) if age_minutes >= late_after_minutes else 0),
        chain=_chain(row),
        also_at=tuple(Sibling(other["station"].upper(), int(other["items"])) for other in row.also_at or ()),
        add_on=row.add_on,
        priority=priority(row.priority),
        ready_by=None if row.ready_by is None else row.ready_by + pos_behind,
    )


def _marks(row: Paper, late_minutes: int) -> Marks:
    """What this copy must say: proven earlier paper is a reprint, unproven earlier bytes a possible duplicate.

    A copy that its printer has thrown away is neither, but a part of it may lie there.
    """
    earlier = row.sends - row.cleared > 1
    printed_at = row.printed_at or row.family_printed_at
    printed_on = (row.printed_on if row.printed_at else row.family_printed_on) or ""
    maybe = dict.fromkeys([*row.maybe_at, *(row.family_maybe_at or ())])
    moved = dict.fromkeys([*row.moved_from, *(row.family_moved_from or ())])
    unproven = bool(maybe) or ((earlier or bool(row.family_on_paper)) and printed_at is None)
    return Marks(
        reprint=Reprint(printed_at, printed_on) if printed_at is not None else None,
        possible_duplicate=unproven,
        check_printers=tuple(maybe),
        moved_from=tuple(name for name in moved if name not in maybe),
        backup_for=row.backup_for,
        backup_reason=row.backup_reason,
        late_minutes=late_minutes,
    )


def _chain(row: Paper) -> Chain | None:
    if row.chain_number is None:
        return None
    before = None
    if row.before_number is not None and row.before_at is not None:
        name = row.before_name if row.before_key != row.printer_key else ""
        before = Before(row.before_number, row.before_at, row.before_place or "", name or "")
    return Chain(row.chain_number, before, row.chain_day if row.other_day else None)


def paper_of(row: Paper | SlipPaper) -> PaperFormat:
    """The paper that it comes out on."""
    return PaperFormat(row.chars_per_line or 0, row.paper_width_mm or 80, row.printer_brand or "", row.model or "")


def _slip_content(row: SlipPaper) -> SlipContent:
    said = row.content
    match SlipKind(row.kind):
        case SlipKind.VOID | SlipKind.CANCELLED | SlipKind.MOVED as kind:
            return _change(ChangeKind(kind.value), row.station, said)
        case SlipKind.OUTAGE:
            return OutageSlip(said["printer"], said["reason"], _moment(said["since"]))
        case SlipKind.CATCH_UP:
            return CatchUpSlip(
                said["printer"],
                _moment(said["since"]),
                tuple(map(_elsewhere, said["went_elsewhere"])),
                tuple(map(_elsewhere, said["maybe_twice"])),
                tuple(map(_elsewhere, row.waiting or ())),
            )
        case unexpected:
            assert_never(unexpected)


def _change(kind: ChangeKind, station: str, said: Mapping[str, Any]) -> ChangeSlip:
    return ChangeSlip(
        kind=kind,
        station=station,
        table=said["table"] or "",
        new_table=said["new_table"] or "",
        queue_number=said["queue_number"],
        bill_type=said["bill_type"] or "",
        bill_number=said["bill_number"] or "",
        items=tuple(
            ChangedItem(
                item["quantity"], item["name"], item["reason"] or "", item["number"],
                datetime.fromisoformat(item["printed_at"]), item["printer"],
            )
            for item in said["items"]
        ),
    )  # fmt: skip


def _elsewhere(said: Mapping[str, Any]) -> ElsewhereTicket:
    return ElsewhereTicket(
        said["ticket"], said["station"], said["number"], said["place"], said["printer"], _moment(said["at"])
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _item(value: Mapping[str, Any]) -> Item:
    return Item(
        quantity=int(value["quantity"] or 0),
        name=str(value["name"] or ""),
        modifiers=modifiers(value["modifiers"]),
        notes=str(value["notes"] or ""),
        station=str(value["station"] or ""),
        void=bool(value["void"]),
    )


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
