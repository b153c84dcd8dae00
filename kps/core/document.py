"""What the paper of a ticket says: ticket -> document of lines. Bytes and dots are made of it in `kps.paper`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from itertools import islice

from kps.core.allergy import states_allergy
from kps.core.text import MIN_WIDTH, broken, clean, columns
from kps.core.tickets import Before, Item, Marks, PaperFormat, Priority, Reason, Reprint, Ticket
from kps.core.wording import PaperStyle, Wording

MIN_COLUMNS = 8
MOST_80_MM, MOST_58_MM = 53, 36
"""The most columns of a printer: 12 dots each on the 640 and 432 dots of the widest heads. A larger `chars_per_line` in
a printer row is a typing error, or counts the letters of a smaller font, which KPS never selects."""
COLUMNS_80_MM, COLUMNS_58_MM = 48, 32
"""Font A (12 dots wide) on 576 and on 384 dots."""
MAX_HEIGHT = 3000
"""The longest paper, in lines of the normal font: 11 m. More would occupy a printer for minutes and be of no use."""
MAX_FEED_LINES = 255
"""The most that one byte can say in `ESC d n`, print and feed n lines."""

_DETAIL_INDENT = 4
_BOX_COLUMNS = 16
"""Columns, of the size of a note, that paper needs for a frame around the note."""


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
    """Where a line is placed that is shorter than the paper is wide."""

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
    """Columns by which further lines of the same text are indented, if it has to be wrapped again."""

    def room(self, paper_columns: int) -> int:
        """Columns of this line's size that its text may take on a paper of `paper_columns`."""
        full = paper_columns // self.size.width
        return max(MIN_WIDTH, full - 2 if self.inverse else full)


@dataclass(frozen=True, slots=True)
class Document:
    """A ticket as it is to be printed. Its text is clean (`kps.core.text.clean`), no line is wider than the paper."""

    lines: tuple[Line, ...]
    feed_lines: int
    """0..MAX_FEED_LINES, after the last line."""
    cut: bool
    feed_before: int = 0
    """0..MAX_FEED_LINES, before the first line: for rails that clamp the head of the paper."""
    beep: bool = False
    """Whether the printer should beep, if it can."""

    @property
    def height(self) -> int:
        """In lines of the normal font, the feed at both ends included."""
        return self.feed_before + sum(line.size.height for line in self.lines) + self.feed_lines


def columns_of(paper: PaperFormat) -> int:
    """Characters of the normal font per line. A row with an impossible number gets the usual one of its paper width."""
    usual, most = (COLUMNS_58_MM, MOST_58_MM) if paper.width_mm <= 58 else (COLUMNS_80_MM, MOST_80_MM)
    return paper.chars_per_line if MIN_COLUMNS <= paper.chars_per_line <= most else usual


def compose(ticket: Ticket, paper: PaperFormat, style: PaperStyle = PaperStyle()) -> Document:  # noqa: B008 - frozen
    """The document of a ticket. Long fields are wrapped, never cut short; void items are left out.

    Raises `Unrenderable` if there is nothing to cook on it, or if it is higher than MAX_HEIGHT.
    """
    page = Page(columns_of(paper))
    writer = _TicketWriter(ticket, page, Wording(style, ticket.timezone), _order(ticket, style))
    writer.write()
    template = ticket.template
    return page.document(template.feed_lines, template.auto_cut, style)


class Page:
    """The lines written so far, and how wide they may be, in columns of the normal font.

    Every method that writes raises `Unrenderable` as soon as the lines are higher than MAX_HEIGHT.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._lines: list[Line] = []
        self._height = 0

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
        """Wrap clean `text` into lines of one format; the first begins with `first`. No text makes no line."""
        look = Line("", size, bold, inverse, align, indent)
        for part in broken(text, look.room(self.columns), first=first, indent=indent):
            self._add(replace(look, text=part))

    def heading(self, text: str, *, size: Size = Size.TALL) -> None:
        """A black bar over the whole width with white text."""
        self.write(text, size=self._fitting(text, size, inverse=True), bold=True, inverse=True, align=Align.CENTER)

    def title(self, text: str, *, size: Size) -> None:
        """Large, bold and centred; smaller where the paper is so narrow that a word or number would be split."""
        self.write(text, size=self._fitting(text, size, inverse=False), bold=True, align=Align.CENTER)

    def box(self, text: str, *, first: str = "", bold: bool = False, indent: int = 0) -> None:
        """Clean `text` in tall letters in a frame; only indented where the paper is too narrow for a frame."""
        room = Line("", Size.TALL).room(self.columns)
        if room < _BOX_COLUMNS:
            self.write(text, size=Size.TALL, bold=bold, first=" " * indent + first, indent=indent)
            return
        lines = broken(text, room - indent - len("│  │"), first=first, indent=columns(first))
        # More lines than a page can hold are not needed: the page refuses them.
        if inside := list(islice(lines, MAX_HEIGHT)):
            self._frame(inside, Line("", Size.TALL, bold, indent=indent))

    def gap(self) -> None:
        """An empty line, so that two black bars do not look like one."""
        self._add(Line(""))

    def rule(self) -> None:
        """A dashed line from edge to edge."""
        self._add(Line("-" * self.columns))

    def document(self, feed_lines: int, cut: bool, style: PaperStyle) -> Document:
        """What has been written. Feeds are limited to what one command can do."""
        return Document(tuple(self._lines), _feed(feed_lines), cut, _feed(style.top_feed_lines), style.beep)

    def _add(self, line: Line) -> None:
        self._lines.append(line)
        self._height += line.size.height
        if self._height > MAX_HEIGHT:
            raise Unrenderable(Reason.UNRENDERABLE, f"its paper would be more than {MAX_HEIGHT} lines long")

    def _frame(self, inside: list[str], look: Line) -> None:
        width = max(map(columns, inside))
        edge, margin = "─" * (width + 2), " " * look.indent
        self._add(replace(look, text=f"{margin}┌{edge}┐"))
        for text in inside:
            self._add(replace(look, text=f"{margin}│ {text}{' ' * (width - columns(text))} │"))
        # Saves paper. The upper edge must be tall: below a line of normal height there is a gap.
        self._add(replace(look, size=Size.NORMAL, text=f"{margin}└{edge}┘"))

    def _fitting(self, text: str, wanted: Size, *, inverse: bool) -> Size:
        longest = max(map(columns, text.split()), default=0)
        smaller = [size for size in (Size.HUGE, Size.DOUBLE) if size.width <= wanted.width]
        fitting = [size for size in smaller if longest <= Line("", size, inverse=inverse).room(self.columns)]
        return wanted if wanted.width == 1 else next(iter(fitting), Size.TALL)


def possible_duplicate(wording: Wording, check_printers: Iterable[str]) -> str:
    """The heading of a paper of which an earlier copy may exist at one of these printers."""
    if printers := wording.names(check_printers):
        return wording.say("POSSIBLE DUPLICATE - CHECK {printers}", printers=printers)
    return wording.say("POSSIBLE DUPLICATE - CHECK ALL PRINTERS")


def write_place(page: Page, wording: Wording, table: str, queue_number: int | None, bill_type: str) -> None:
    """Table, queue number and kind of order: what a cook looks for first."""
    if clean(table):
        page.title(wording.say("TABLE {table}", table=table), size=Size.HUGE)
    if queue_number is not None:
        page.title(wording.say("QUEUE {number}", number=queue_number), size=Size.HUGE)
    page.title(_order_type(wording, bill_type), size=Size.DOUBLE)


def write_field(page: Page, name: str, value: str) -> None:
    """A line `Name: value`; none if the value is empty."""
    page.write(clean(value), first=f"{name}: ", indent=columns(name) + 2)


def _order_type(wording: Wording, bill_type: str) -> str:
    match clean(bill_type).lower():
        case "dine_in":
            return wording.say("DINE IN")
        case "takeaway":
            return wording.say("TAKEAWAY")
        case "delivery":
            return wording.say("DELIVERY")
        case other:
            return clean(other.replace("_", " ").upper())


def _feed(lines: int) -> int:
    return min(max(lines, 0), MAX_FEED_LINES)


@dataclass(frozen=True, slots=True)
class _Dish:
    """A dish that is made so many times in the same way. All texts are clean."""

    quantity: int
    name: str
    modifiers: tuple[str, ...]
    remarks: tuple[str, ...]
    station: str
    warnings: frozenset[str]
    """Those of the modifiers and remarks that state an allergy."""

    @property
    def recipe(self) -> tuple[str, tuple[str, ...], tuple[str, ...], str]:
        """Two dishes with the same recipe are printed as one, with the sum of their quantities."""
        return self.name, self.modifiers, self.remarks, self.station


@dataclass(frozen=True, slots=True)
class _Order:
    """The dishes of a ticket, and the notes that hold for all of them."""

    dishes: tuple[_Dish, ...]
    notes: str
    """Notes of the bill: clean, may be several lines."""
    notes_warn: bool
    """Whether they state an allergy."""

    def warnings(self, wording: Wording) -> Iterator[str]:
        """Each statement of an allergy, with the name of its dish."""
        if self.notes_warn:
            yield self.notes
        for dish in self.dishes:
            stated = [text for text in (*dish.modifiers, *dish.remarks) if text in dish.warnings]
            if stated:
                yield f"{wording.name(dish.name)}: {' / '.join(stated)}"


def _order(ticket: Ticket, style: PaperStyle) -> _Order:
    if not ticket.items:
        raise Unrenderable(Reason.NO_ITEMS, "no items")
    dishes = [_dish(item, style.allergy_words) for item in ticket.items if not item.void]
    if not dishes:
        raise Unrenderable(Reason.NO_ITEMS, "all items are void")
    notes = clean(ticket.bill_notes, newlines=True)
    # Without printed quantities each portion needs a line of its own.
    written = _merged(dishes) if ticket.template.show_item_qty else dishes
    return _Order(tuple(written), notes, states_allergy(notes, style.allergy_words))


def _dish(item: Item, allergy_words: tuple[str, ...]) -> _Dish:
    ordered, remarks = _split_notes(item.notes)
    modifiers = [clean(modifier).lstrip("+ ") for modifier in (*item.modifiers, *ordered)]
    return _Dish(
        quantity=item.quantity,
        name=clean(item.name),
        modifiers=tuple(filter(None, modifiers)),
        remarks=tuple(remarks),
        station=clean(item.station.upper()),
        warnings=_warnings(modifiers, remarks, allergy_words),
    )


def _warnings(modifiers: list[str], remarks: list[str], allergy_words: tuple[str, ...]) -> frozenset[str]:
    """Those that may belong to a statement: "ALLERGY" and "nuts" may be two lines, or two modifiers.

    Where a remark states the allergy, the modifiers are the dish as it was ordered.
    """
    if any(states_allergy(modifier, allergy_words) for modifier in modifiers):
        return frozenset((*modifiers, *remarks))
    return frozenset(remarks) if states_allergy("\n".join(remarks), allergy_words) else frozenset()


def _merged(dishes: Iterable[_Dish]) -> Iterable[_Dish]:
    """Dishes of one recipe become one, at the place of the first. One with a quantity of 0 or less stays alone."""
    merged: dict[object, _Dish] = {}
    for position, dish in enumerate(dishes):
        key = dish.recipe if dish.quantity > 0 else position
        same = merged.get(key)
        merged[key] = dish if same is None else replace(same, quantity=same.quantity + dish.quantity)
    return merged.values()


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


class _TicketWriter:
    """Writes one ticket onto a page, the most important first."""

    def __init__(self, ticket: Ticket, page: Page, wording: Wording, order: _Order) -> None:
        self._ticket = ticket
        self._template = ticket.template
        self._page = page
        self._wording = wording
        self._say = wording.say
        self._order = order

    def write(self) -> None:
        """The whole ticket."""
        self._write_allergies()
        for heading in self._headings(self._ticket.marks):
            self._page.heading(heading)
        self._write_title()
        self._write_place()
        self._page.rule()
        self._write_bill_notes()
        for dish in self._order.dishes:
            self._write_dish(dish)
        self._page.rule()
        self._write_siblings()
        self._write_bill()
        self._write_chain()
        for footer in self._template.footer_lines:
            self._page.write(clean(footer), align=Align.CENTER)
        # The last line: its presence shows that the paper is complete.
        self._page.write(f"#{self._ticket.id}", bold=True)

    def _write_allergies(self) -> None:
        warnings = dict.fromkeys(self._order.warnings(self._wording))
        if not warnings:
            return
        self._page.heading(self._say("ALLERGY"), size=Size.DOUBLE)
        for warning in warnings:
            self._page.heading(warning)
        self._page.gap()

    def _headings(self, marks: Marks) -> Iterator[str]:
        wording = self._wording
        if marks.reprint is not None:
            yield self._reprint(marks.reprint)
        if marks.possible_duplicate:
            yield possible_duplicate(wording, marks.check_printers)
        if marks.moved_from:
            printers = ", ".join(map(wording.name, marks.moved_from))
            yield self._say("MOVED - PART MAY BE AT {printers}", printers=printers)
        if marks.backup_for:
            yield self._backup(marks)
        if marks.late_minutes > 0:
            yield self._say("LATE {minutes} MIN", minutes=marks.late_minutes)
        match self._ticket.priority:
            case Priority.RUSH:
                yield self._say("RUSH")
            case Priority.URGENT:
                yield self._say("URGENT")
            case Priority.NORMAL:
                pass
        if self._ticket.add_on:
            yield self._say("ADD-ON")

    def _reprint(self, reprint: Reprint) -> str:
        printer = clean(reprint.printer)
        if reprint.printed_at is None:
            return (
                self._say("REPRINT - printed on {printer}", printer=printer)
                if printer
                else self._say("REPRINT - printed")
            )
        when = self._wording.past(reprint.printed_at, self._ticket.printed_now)
        if printer:
            return self._say("REPRINT - printed {when} on {printer}", when=when, printer=printer)
        return self._say("REPRINT - printed {when}", when=when)

    def _backup(self, marks: Marks) -> str:
        printer = self._wording.name(marks.backup_for)
        if reason := self._wording.cause(marks.backup_reason):
            return self._say("BACKUP FOR {printer} ({reason})", printer=printer, reason=reason)
        return self._say("BACKUP FOR {printer}", printer=printer)

    def _write_title(self) -> None:
        headers = [line for line in map(clean, self._template.header_lines) if line]
        if self._ticket.checker and not headers:
            headers = [self._say("CHECKER")]
        for header in headers:
            self._page.write(header, bold=True, align=Align.CENTER)
        if self._template.show_station_name and not self._ticket.checker:
            self._page.title(clean(self._ticket.station.upper()), size=Size.DOUBLE)

    def _write_place(self) -> None:
        ticket = self._ticket
        # A takeaway is known only by its queue number, so no template option hides that.
        table = ticket.table if self._template.show_table_number else ""
        write_place(self._page, self._wording, table, ticket.queue_number, ticket.bill_type)
        if ticket.ready_by is not None:
            time = self._wording.soon(ticket.ready_by, ticket.printed_now)
            self._page.title(self._say("READY BY {time}", time=time), size=Size.DOUBLE)

    def _write_bill_notes(self) -> None:
        """Notes of the bill. They stand above the dishes, because they hold for all of them."""
        notes = self._order.notes
        if self._order.notes_warn:
            self._page.heading(notes)
        elif notes:
            self._page.box(notes, first=f"{self._say('NOTE')}: ", bold=True)

    def _write_dish(self, dish: _Dish) -> None:
        box = "[ ] " if self._ticket.checker and self._template.show_checkbox else ""
        prefix = box + (f"{dish.quantity} x " if self._template.show_item_qty else "")
        self._page.write(self._wording.name(dish.name), size=Size.DOUBLE, bold=True, first=prefix, indent=len(prefix))
        if dish.station and self._ticket.checker and self._template.show_station_label:
            self._page.write(f"({dish.station})", first=" " * _DETAIL_INDENT, indent=_DETAIL_INDENT)
        for modifier in dish.modifiers:
            self._write_modifier(modifier, modifier in dish.warnings)
        if dish.warnings:
            for remark in dish.remarks:
                self._page.heading(remark)
        elif self._template.show_item_notes:
            self._page.box("\n".join(dish.remarks), indent=_DETAIL_INDENT)

    def _write_modifier(self, modifier: str, warn: bool) -> None:
        if warn:
            self._page.heading(f"+ {modifier}")
            return
        first = " " * _DETAIL_INDENT + "+ "
        self._page.write(modifier, size=Size.TALL, bold=True, first=first, indent=len(first))

    def _write_siblings(self) -> None:
        if self._ticket.checker:
            return
        named = [(clean(other.station.upper()), other.items) for other in self._ticket.also_at]
        if stations := ", ".join(f"{station} {items}" for station, items in named if station):
            self._page.write(self._say("Also at: {stations}", stations=stations), bold=True)

    def _write_bill(self) -> None:
        ticket, template, page, say = self._ticket, self._template, self._page, self._say
        if template.show_customer_name or ticket.checker:
            write_field(page, say("Customer"), ticket.customer_name)
            write_field(page, say("Guests"), str(ticket.guest_count) if ticket.guest_count > 0 else "")
        if template.show_bill_number:
            write_field(page, say("Bill"), ticket.bill_number)
        write_field(page, say("Waiter"), ticket.waiter)
        if template.show_date_time:
            self._write_times()

    def _write_times(self) -> None:
        ordered = self._wording.day_and_clock(self._ticket.created_at)
        printed = self._wording.day_and_clock(self._ticket.printed_now)
        write_field(self._page, self._say("Ordered"), ordered)
        if printed != ordered:
            write_field(self._page, self._say("Printed"), printed)

    def _write_chain(self) -> None:
        """The number of this paper at its station, so that a cook notices a missing one."""
        chain = self._ticket.chain
        if chain is None:
            return
        own = chain_number(chain.number)
        if chain.day is not None:
            own = self._say("{number} of {day}", number=own, day=chain.day.isoformat())
        if chain.before is not None:
            text = self._say("{number}, before: {before}", number=own, before=self._before(chain.before))
        elif chain.day is not None:
            text = self._say("{number}, first of that day", number=own)
        else:
            text = self._say("{number}, first today", number=own)
        self._page.write(text, bold=True)

    def _before(self, before: Before) -> str:
        paper = " ".join(
            filter(None, (chain_number(before.number), self._wording.clock(before.at), clean(before.place)))
        )
        printer = clean(before.printer)
        return self._say("{paper} at {printer}", paper=paper, printer=printer) if printer else paper


def chain_number(number: int) -> str:
    """The number of a ticket in the paper chain of its station, as it is written everywhere: `#042`."""
    return f"#{number:03}"
