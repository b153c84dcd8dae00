"""What the paper of a ticket says: ticket -> document of lines, without a word about bytes or dots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from enum import Enum, StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kps.core.text import MIN_WIDTH, clean, wrap
from kps.core.tickets import Item, Marks, PaperFormat, Reason, Reprint, Ticket

MIN_COLUMNS, MAX_COLUMNS = 8, 96
"""A printer row's `chars_per_line` outside of these is a slip of the pen."""
COLUMNS_80_MM, COLUMNS_58_MM = 48, 32
"""Font A (12 dots wide) on 576 and on 384 dots."""
MAX_FEED_LINES = 255
"""One byte in ESC d n, print and feed n lines."""

_DETAIL_INDENT = 4
_ORDER_TYPES = {"dine_in": "DINE IN", "takeaway": "TAKEAWAY", "delivery": "DELIVERY"}


class Unrenderable(Exception):
    """The ticket itself cannot be put on paper, whatever the printer."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


class Size(Enum):
    """How many times wider and higher than the normal font the characters of a line are."""

    NORMAL = (1, 1)
    TALL = (1, 2)
    DOUBLE = (2, 2)
    HUGE = (3, 3)

    @property
    def width(self) -> int:
        """Columns of the normal font that one column of this size takes."""
        return self.value[0]

    @property
    def height(self) -> int:
        """Lines of the normal font that one line of this size takes."""
        return self.value[1]


class Align(StrEnum):
    """Where a line stands that is shorter than the paper is wide."""

    LEFT = "left"
    CENTER = "center"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the paper, already broken to fit; an inverse one is a black bar over the whole width."""

    text: str
    size: Size = Size.NORMAL
    bold: bool = False
    inverse: bool = False
    align: Align = Align.LEFT
    indent: int = 0
    """Columns by which a further line of the same sentence is indented, for whoever must break it again."""

    def room(self, paper_columns: int) -> int:
        """Columns of this line's size that its text may take on a paper of `paper_columns`."""
        full = paper_columns // self.size.width
        return max(MIN_WIDTH, full - 2 if self.inverse else full)


@dataclass(frozen=True, slots=True)
class Document:
    """A ticket as it shall stand on paper. Its text is clean, and no line is wider than the paper."""

    lines: tuple[Line, ...]
    feed_lines: int
    """0..MAX_FEED_LINES, after the last line."""
    cut: bool

    @property
    def height(self) -> int:
        """In lines of the normal font, the feed at the end included."""
        return sum(line.size.height for line in self.lines) + self.feed_lines


def columns_of(paper: PaperFormat) -> int:
    """Characters of the normal font per line; a row with an impossible number gets what its paper width usually has."""
    if MIN_COLUMNS <= paper.chars_per_line <= MAX_COLUMNS:
        return paper.chars_per_line
    return COLUMNS_58_MM if paper.width_mm <= 58 else COLUMNS_80_MM


def compose(ticket: Ticket, paper: PaperFormat) -> Document:
    """The document of a ticket. Long fields are wrapped, never cut short; void items are left out.

    Raises `Unrenderable` if there is nothing to cook on it.
    """
    items = _items_to_print(ticket)
    page = _Page(columns_of(paper))
    _write_headings(page, ticket)
    _write_title(page, ticket)
    _write_place(page, ticket)
    page.rule()
    for item in items:
        _write_item(page, item, ticket)
    page.rule()
    _write_bill(page, ticket)
    for footer in ticket.template.footer_lines:
        page.write(clean(footer), align=Align.CENTER)
    feed_lines = min(max(ticket.template.feed_lines, 0), MAX_FEED_LINES)
    return Document(tuple(page.lines), feed_lines, ticket.template.auto_cut)


class _Page:
    """The lines written so far, and how wide they may be."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines: list[Line] = []

    def write(
        self,
        text: str,
        *,
        size: Size = Size.NORMAL,
        bold: bool = False,
        inverse: bool = False,
        align: Align = Align.LEFT,
        first: str = "",
        indent: int = 0,
    ) -> None:
        """Wrap clean `text` into lines of one look; the first begins with `first`. No text, no line."""
        look = Line("", size, bold, inverse, align, indent)
        for part in wrap(text, look.room(self.columns), first=first, indent=indent):
            self.lines.append(replace(look, text=part))

    def rule(self) -> None:
        """A dashed line from edge to edge."""
        self.lines.append(Line("-" * self.columns))


def _items_to_print(ticket: Ticket) -> list[Item]:
    if not ticket.items:
        raise Unrenderable(Reason.NO_ITEMS, "no items")
    items = [item for item in ticket.items if not item.void]
    if not items:
        raise Unrenderable(Reason.NO_ITEMS, "all items are void")
    return items


def _write_headings(page: _Page, ticket: Ticket) -> None:
    for heading in _headings(ticket.marks, ticket):
        page.write(clean(heading), size=Size.TALL, bold=True, inverse=True, align=Align.CENTER)


def _headings(marks: Marks, ticket: Ticket) -> Iterator[str]:
    if marks.reprint is not None:
        yield _reprint_heading(marks.reprint, ticket)
    if marks.possible_duplicate:
        yield f"POSSIBLE DUPLICATE - CHECK {', '.join(marks.check_printers) or 'ALL PRINTERS'}"
    if marks.moved_from:
        yield f"MOVED - PART MAY BE AT {', '.join(marks.moved_from)}"
    if marks.backup_for:
        yield f"BACKUP FOR {marks.backup_for}"
    if marks.late_minutes > 0:
        yield f"LATE {marks.late_minutes} MIN"


def _reprint_heading(reprint: Reprint, ticket: Ticket) -> str:
    when = where = ""
    if reprint.printed_at is not None:
        first, now = _local(reprint.printed_at, ticket), _local(ticket.printed_now, ticket)
        when = f" {_clock(first, ticket)}" if first.date() == now.date() else f" {_day_and_clock(first, ticket)}"
    if reprint.printer:
        where = f" on {reprint.printer}"
    return f"REPRINT - printed{when}{where}"


def _write_title(page: _Page, ticket: Ticket) -> None:
    headers = [line for line in map(clean, ticket.template.header_lines) if line]
    if ticket.checker and not headers:
        headers = ["CHECKER"]
    for header in headers:
        page.write(header, bold=True, align=Align.CENTER)
    if ticket.template.show_station_name and not ticket.checker:
        page.write(clean(ticket.station.upper()), size=Size.DOUBLE, bold=True, align=Align.CENTER)


def _write_place(page: _Page, ticket: Ticket) -> None:
    table = clean(ticket.table)
    if table and ticket.template.show_table_number:
        page.write(f"TABLE {table}", size=Size.HUGE, bold=True, align=Align.CENTER)
    if ticket.queue_number is not None:
        page.write(f"QUEUE {ticket.queue_number}", size=Size.HUGE, bold=True, align=Align.CENTER)
    page.write(_order_type(ticket.bill_type), size=Size.DOUBLE, bold=True, align=Align.CENTER)


def _order_type(bill_type: str) -> str:
    name = clean(bill_type)
    return _ORDER_TYPES.get(name.lower(), clean(name.replace("_", " ").upper()))


def _write_item(page: _Page, item: Item, ticket: Ticket) -> None:
    template = ticket.template
    box = "[ ] " if ticket.checker and template.show_checkbox else ""
    quantity = f"{item.quantity} x " if template.show_item_qty else ""
    prefix = box + quantity
    page.write(clean(item.name) or "(no name)", size=Size.DOUBLE, bold=True, first=prefix, indent=len(prefix))
    station = clean(item.station.upper())
    if station and ticket.checker and template.show_station_label:
        page.write(f"({station})", first=" " * _DETAIL_INDENT, indent=_DETAIL_INDENT)
    ordered, remarks = _split_notes(item.notes)
    for modifier in (*item.modifiers, *ordered):
        _write_modifier(page, modifier)
    if template.show_item_notes:
        for remark in remarks:
            page.write(remark, size=Size.TALL, first=" " * _DETAIL_INDENT, indent=_DETAIL_INDENT)


def _write_modifier(page: _Page, modifier: str) -> None:
    first = " " * _DETAIL_INDENT + "+ "
    page.write(clean(modifier).lstrip("+ "), size=Size.TALL, bold=True, first=first, indent=len(first))


def _split_notes(notes: str) -> tuple[list[str], list[str]]:
    """Modifiers and remarks of an item's notes: an order by QR code writes both there, as `+ name | + name | remark`.

    The modifiers are part of the dish, so a template that hides notes does not hide them.
    """
    modifiers: list[str] = []
    remarks: list[str] = []
    for line in clean(notes, newlines=True).split("\n"):
        parts = line.split("|") if line.lstrip().startswith("+") else [line]
        for part in filter(None, map(str.strip, parts)):
            (modifiers if part.startswith("+") else remarks).append(part)
    return modifiers, remarks


def _write_bill(page: _Page, ticket: Ticket) -> None:
    template = ticket.template
    notes = clean(ticket.bill_notes, newlines=True)
    page.write(notes, size=Size.TALL, bold=True, first="NOTE: " if notes else "", indent=len("NOTE: "))
    if template.show_customer_name or ticket.checker:
        _write_field(page, "Customer", ticket.customer_name)
        _write_field(page, "Guests", str(ticket.guest_count) if ticket.guest_count > 0 else "")
    if template.show_bill_number:
        _write_field(page, "Bill", ticket.bill_number)
    _write_field(page, "Waiter", ticket.waiter)
    if template.show_date_time:
        _write_times(page, ticket)
    page.write(f"#{ticket.id}", bold=True)


def _write_field(page: _Page, name: str, value: str) -> None:
    page.write(clean(value), first=f"{name}: ", indent=len(name) + 2)


def _write_times(page: _Page, ticket: Ticket) -> None:
    ordered = _day_and_clock(_local(ticket.created_at, ticket), ticket)
    printed = _day_and_clock(_local(ticket.printed_now, ticket), ticket)
    _write_field(page, "Ordered", ordered)
    if printed != ordered:
        _write_field(page, "Printed", printed)


def _local(moment: datetime, ticket: Ticket) -> datetime:
    return moment.astimezone(_zone(ticket.timezone) or UTC)


def _day_and_clock(local: datetime, ticket: Ticket) -> str:
    return f"{local.date().isoformat()} {_clock(local, ticket)}"


def _clock(local: datetime, ticket: Ticket) -> str:
    unknown = _zone(ticket.timezone) is None
    return f"{local.hour:02}:{local.minute:02}{' UTC' if unknown else ''}"


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo | None:
    """The time zone of that IANA name; None if this machine knows none. A name from a row may also be a folder's."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
