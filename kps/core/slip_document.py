"""What the paper of a slip says: slip -> document of lines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import assert_never

from kps.core.document import (
    Align,
    Document,
    Page,
    Size,
    chain_number,
    columns_of,
    possible_duplicate,
    write_field,
    write_place,
)
from kps.core.slips import CatchUpSlip, ChangedItem, ChangeKind, ChangeSlip, ElsewhereTicket, OutageSlip, Slip
from kps.core.text import clean
from kps.core.tickets import PaperFormat
from kps.core.wording import PaperStyle, Wording

MAX_ROWS = 40
"""Most tickets in one list of a catch-up slip. A longer list would not be read."""
FEED_LINES = 3
"""After the last line of a slip: the POS has no template for them."""

_INDENT = 4


def compose_slip(slip: Slip, paper: PaperFormat, style: PaperStyle = PaperStyle()) -> Document:  # noqa: B008 - frozen
    """The document of a slip. Its last line is `slip #<id>`.

    Raises `Unrenderable` if it is higher than MAX_HEIGHT.
    """
    page = Page(columns_of(paper))
    wording = Wording(style, slip.timezone)
    if slip.possible_duplicate:
        page.heading(possible_duplicate(wording, slip.check_printers))
        page.gap()
    match slip.content:
        case ChangeSlip() as change:
            _write_change(page, wording, change, slip.printed_now)
        case OutageSlip() as outage:
            _write_outage(page, wording, outage, slip.printed_now)
        case CatchUpSlip() as catch_up:
            _write_catch_up(page, wording, catch_up, slip.printed_now)
        case _:
            assert_never(slip.content)
    write_field(page, wording.say("Printed"), wording.day_and_clock(slip.printed_now))
    page.write(f"slip #{slip.id}", bold=True)
    return page.document(FEED_LINES, True, style)


def _write_change(page: Page, wording: Wording, change: ChangeSlip, now: datetime) -> None:
    page.heading(_change(wording, change.kind), size=Size.HUGE)
    page.title(clean(change.station.upper()), size=Size.DOUBLE)
    if change.kind is ChangeKind.MOVED:
        page.title(_move(wording, change), size=Size.HUGE)
    else:
        write_place(page, wording, change.table, change.queue_number, change.bill_type)
    page.title(_order(wording, change.kind), size=Size.DOUBLE)
    page.rule()
    for item in change.items:
        _write_changed_item(page, wording, item, now)
    page.rule()
    write_field(page, wording.say("Bill"), change.bill_number)


def _change(wording: Wording, kind: ChangeKind) -> str:
    match kind:
        case ChangeKind.VOID:
            return wording.say("VOID")
        case ChangeKind.CANCELLED:
            return wording.say("CANCELLED")
        case ChangeKind.MOVED:
            return wording.say("TABLE CHANGED")
        case _:
            assert_never(kind)


def _order(wording: Wording, kind: ChangeKind) -> str:
    """The instruction for the cook."""
    match kind:
        case ChangeKind.VOID | ChangeKind.CANCELLED:
            return wording.say("DO NOT COOK")
        case ChangeKind.MOVED:
            return wording.say("KEEP COOKING")
        case _:
            assert_never(kind)


def _move(wording: Wording, change: ChangeSlip) -> str:
    """`T5 -> T8`. A bill without a table is named by its queue number."""
    old = wording.place(change.table, change.queue_number)
    new = wording.place(change.new_table, change.queue_number)
    return f"{old or '-'} -> {new or '-'}"


def _write_changed_item(page: Page, wording: Wording, item: ChangedItem, now: datetime) -> None:
    prefix = f"{item.quantity} x "
    page.write(wording.name(item.name), size=Size.DOUBLE, bold=True, first=prefix, indent=len(prefix))
    page.box(clean(item.reason, newlines=True), indent=_INDENT)
    number = "" if item.number is None else chain_number(item.number)
    found_at = _words(number, wording.past(item.printed_at, now), item.printer)
    page.write(found_at, size=Size.TALL, bold=True, first=" " * _INDENT, indent=_INDENT)


def _write_outage(page: Page, wording: Wording, outage: OutageSlip, now: datetime) -> None:
    printer, reason = wording.name(outage.printer), wording.cause(outage.reason)
    if reason:
        page.heading(wording.say("{printer} CANNOT PRINT ({reason})", printer=printer, reason=reason), size=Size.DOUBLE)
    else:
        page.heading(wording.say("{printer} CANNOT PRINT", printer=printer), size=Size.DOUBLE)
    _write_since(page, wording, outage.since, now)
    page.title(wording.say("ITS TICKETS COME OUT HERE"), size=Size.DOUBLE)
    page.rule()


def _write_since(page: Page, wording: Wording, since: datetime | None, now: datetime) -> None:
    if since is not None:
        text = wording.say("Not printing since {time}", time=wording.past(since, now))
        page.write(text, bold=True, align=Align.CENTER)


def _write_catch_up(page: Page, wording: Wording, catch_up: CatchUpSlip, now: datetime) -> None:
    page.heading(wording.say("{printer} PRINTS AGAIN", printer=wording.name(catch_up.printer)), size=Size.DOUBLE)
    _write_since(page, wording, catch_up.since, now)
    everything = (*catch_up.went_elsewhere, *catch_up.maybe_twice, *catch_up.waiting)
    # Each station counts its own papers: with several stations on the slip a number alone is ambiguous.
    with_station = len({clean(ticket.station.upper()) for ticket in everything}) > 1

    def row(ticket: ElsewhereTicket) -> str:
        return _elsewhere(wording, ticket, now, with_station)

    _write_list(page, wording, wording.say("CHECK FOR DOUBLES:"), catch_up.maybe_twice, row)
    _write_list(page, wording, wording.say("WENT ELSEWHERE:"), catch_up.went_elsewhere, row)
    _write_list(page, wording, wording.say("WAITING NOW:"), catch_up.waiting, row)
    page.rule()


def _write_list(
    page: Page,
    wording: Wording,
    title: str,
    tickets: tuple[ElsewhereTicket, ...],
    row: Callable[[ElsewhereTicket], str],
) -> None:
    if not tickets:
        return
    page.rule()
    page.write(title, size=Size.TALL, bold=True)
    for ticket in tickets[:MAX_ROWS]:
        page.write(row(ticket), indent=_INDENT)
    if len(tickets) > MAX_ROWS:
        page.write(wording.say("and {count} more", count=len(tickets) - MAX_ROWS), bold=True)


def _elsewhere(wording: Wording, ticket: ElsewhereTicket, now: datetime, with_station: bool) -> str:
    """`#042 T5 19:31 -> KITCHEN-2`; a ticket that waits has no arrow and no printer."""
    if ticket.number is None:
        number = wording.say("ticket {id}", id=ticket.ticket)
    else:
        number = chain_number(ticket.number)
    station = ticket.station.upper() if with_station else ""
    when = "" if ticket.at is None else wording.past(ticket.at, now)
    printer = clean(ticket.printer)
    return _words(station, number, ticket.place, when, f"-> {printer}" if printer else "")


def _words(*texts: str) -> str:
    return " ".join(filter(None, map(clean, texts)))
