"""The bytes of a ticket hold our own commands, the text of the document, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kps
from kps.core.document import MAX_FEED_LINES, Align, Document, Line, Size, Unrenderable, columns_of, compose
from kps.core.text import columns
from kps.core.tickets import Item, Marks, PaperFormat, Reason, Template, Ticket, TicketId
from kps.core.wording import PaperStyle
from kps.demo.virtual_printer.decoder import Decoder, Kind
from kps.paper.escpos import encode, render, warm_up
from kps.paper.layout import NativeLine, Picture, RasterLine, Sheet, lay_out
from kps.paper.profiles import Profile, profile, profile_names, profile_of

WIDE = PaperFormat(48, 80, "hprt")
IMPACT = PaperFormat(33, 80, "epson", "EPSON TM-U220")
START = b"\x1b@\x1c."
MISSING = "\U0010abcd"
"""Private use, so that no font of any machine has it."""


@dataclass(frozen=True)
class PrintedLine:
    """A line as a printer would put it on paper."""

    text: str
    width: int = 1
    height: int = 1
    bold: bool = False
    inverse: bool = False
    centred: bool = False


class Printer:
    """Obeys the few commands that a ticket may hold, and refuses every other byte below 20."""

    def __init__(self, data: bytes, model: Profile | None = None) -> None:
        self.data, self.at = data, 0
        self.pages = {page.number: page for page in (model or profile_of(WIDE.brand)).pages}
        self.lines: list[PrintedLine] = []
        self.strips: list[tuple[int, int, bytes, bool]] = []
        self.look = PrintedLine("")
        self.text = ""
        self.page: dict[int, str] = {}
        self.resets = self.fed = self.cuts = 0
        while self.at < len(data):
            self.step()
        assert self.text == "", "text without a line end"

    def take(self, count: int = 1) -> bytes:
        taken = self.data[self.at : self.at + count]
        assert len(taken) == count, "a command is cut off"
        self.at += count
        return taken

    def step(self) -> None:
        first = self.take()
        if first in b"\x1b\x1c\x1d":
            self.command(first + self.take())
        elif first == b"\n":
            self.lines.append(replace(self.look, text=self.text))
            self.text = ""
        else:
            assert first[0] >= 0x20, f"control byte {first.hex()}"
            assert first[0] != 0x7F
            assert first[0] < 0x80 or first[0] in self.page, "a byte of no known page"
            self.text += first.decode("ascii") if first[0] < 0x80 else self.page[first[0]]

    def command(self, name: bytes) -> None:
        if name == b"\x1b@":
            self.resets += 1
            assert self.at == 2, "reset inside the ticket"
        elif name == b"\x1c.":
            assert self.at == 4
        elif name == b"\x1bt":
            self.page = {code: char for char, code in self.pages[self.take()[0]].codes.items()}
        elif name == b"\x1d!":
            size = self.take()[0]
            self.look = replace(self.look, width=(size >> 4) + 1, height=(size & 7) + 1)
        elif name == b"\x1b!":
            mode = self.take()[0]
            assert not mode & ~0x38
            look = replace(self.look, bold=bool(mode & 8), height=1 + bool(mode & 0x10), width=1 + bool(mode & 0x20))
            self.look = look
        elif name == b"\x1dv":
            assert self.take(2) == b"0\x00"
            assert self.text == "", "a picture inside a line"
            width, height = self.take()[0] + 256 * self.take()[0], self.take()[0] + 256 * self.take()[0]
            self.strips.append((width, height, self.take(width * height), self.look.centred))
        elif name == b"\x1bE":
            self.look = replace(self.look, bold=self.take() == b"\x01")
        elif name == b"\x1dB":
            self.look = replace(self.look, inverse=self.take() == b"\x01")
        elif name == b"\x1ba":
            self.look = replace(self.look, centred=self.take() == b"\x01")
        elif name == b"\x1bd":
            self.fed += self.take()[0]
        elif name == b"\x1dV":
            assert self.take(2) == b"\x42\x00"
            self.cuts += 1
        else:
            raise AssertionError(f"unknown command {name.hex(' ')}")


def a_document(
    *lines: Line, feed_lines: int = 0, cut: bool = False, feed_before: int = 0, beep: bool = False
) -> Document:
    return Document(lines, feed_lines, cut, feed_before, beep)


def a_ticket(*items: Item, **fields: str) -> Ticket:
    noon = datetime(2026, 11, 22, 12, 31, tzinfo=UTC)
    plain = Ticket(
        TicketId(42), "kitchen", False, noon, noon, "UTC", "A-1", "dine_in", "12", None, "", 0, "", "Dewi", items
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def ink(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (a_document(), START),
        (a_document(Line("Soto")), START + b"Soto\n"),
        (a_document(feed_lines=3, cut=True), START + b"\x1bd\x03\x1dVB\x00"),
        (a_document(cut=True), START + b"\x1dVB\x00"),
        (a_document(Line("A", Size.TALL, bold=True)), START + b"\x1d!\x01\x1bE\x01A\n"),
        (a_document(Line("A", Size.HUGE), Line("B", Size.HUGE)), START + b"\x1d!\x22A\nB\n"),
        (
            a_document(Line("A", Size.DOUBLE, align=Align.CENTER), Line("B")),
            START + b"\x1d!\x11\x1ba\x01A\n\x1d!\x00\x1ba\x00B\n",
        ),
        (a_document(Line("Crème"), Line("brûlée")), START + b"\x1bt\x00Cr\x8ame\nbr\x96l\x82e\n"),
        (a_document(Line("pão")), START + b"\x1bt\x02p\xc6o\n"),
        (a_document(Line("€5")), START + b"\x1bt\x13\xd55\n"),
        (a_document(Line("5 – x")), START + b"\x1bt\x105 \x96 x\n"),
        (a_document(Line("Борщ")), START + b"\x1bt\x11\x81\xae\xe0\xe9\n"),
        (a_document(Line("é–"), Line("é"), Line("a")), START + b"\x1bt\x10\xe9\x96\n\xe9\na\n"),
        (a_document(Line("–ж")), START + b"\x1bt\x10\x96\x1bt\x11\xa6\n"),
        (a_document(Line(MISSING)), START + b"[U+10ABCD]\n"),
        (a_document(Line("a"), feed_before=5), START + b"\x1bd\x05a\n"),
        (a_document(Line("a"), beep=True), START + b"\x1b(A\x05\x00ad\x01\x02\x01a\n"),
        (a_document(Line("┌─┐")), START + b"\xda\xc4\xbf\n".replace(b"\xda", b"\x1bt\x00\xda")),
    ],
)
def test_a_document_becomes_exactly_these_bytes(document: Document, expected: bytes) -> None:
    assert render(document, WIDE) == expected


@pytest.mark.parametrize("size", [Size.NORMAL, Size.TALL, Size.DOUBLE])
def test_an_inverse_line_is_a_bar_over_the_whole_width(size: Size) -> None:
    (bar,) = Printer(render(a_document(Line("LATE 3 MIN", size, inverse=True)), WIDE)).lines
    assert bar.inverse
    assert bar.text.strip() == "LATE 3 MIN"
    assert len(bar.text) * size.width == 48


def test_a_line_that_grew_by_substitution_is_broken_between_codes_with_its_indent() -> None:
    data = render(a_document(Line("12 x " + 4 * "\U0010abcd", Size.DOUBLE, indent=5)), PaperFormat(34, 58, "hprt"))
    assert [line.text for line in Printer(data).lines] == ["12 x [U+10ABCD]"] + 3 * ["     [U+10ABCD]"]


def test_a_rewrapped_detail_keeps_its_place_under_the_item() -> None:
    data = render(a_document(Line("    tanpa bawang " + 7 * MISSING, indent=4)), PaperFormat(32, 58, "hprt"))
    lines = [line.text for line in Printer(data).lines]
    assert len(lines) > 1
    assert all(line.startswith("    ") for line in lines)


@pytest.mark.parametrize(
    ("brand", "start"), [("", START), ("HRPT", START), ("no such brand", START), (" Epson ", b"\x1b@")]
)
def test_kanji_mode_is_switched_off_unless_the_profile_is_known_to_have_none(brand: str, start: bytes) -> None:
    assert render(a_document(Line("Soto")), PaperFormat(48, 80, brand)) == start + b"Soto\n"


def test_an_impact_printer_gets_the_print_mode_that_it_knows_and_a_bar_of_asterisks() -> None:
    data = render(
        a_document(
            Line("T5", Size.HUGE, align=Align.CENTER),
            Line("+ pedas", Size.TALL, bold=True),
            Line("ALLERGY", Size.DOUBLE, bold=True, inverse=True),
            Line("少辣 é"),
        ),
        IMPACT,
    )
    printer = Printer(data, profile_of(IMPACT.brand, IMPACT.model))
    assert b"\x1d!" not in data
    assert b"\x1dB" not in data
    assert [(line.text, line.width, line.height, line.bold) for line in printer.lines] == [
        ("T5", 2, 2, False),
        ("+ pedas", 1, 2, True),
        ("*** ALLERGY ****", 2, 2, True),
        ("Shao La é", 1, 1, False),
    ]


def a_picture(rows: int, width_bytes: int = 72, pattern: bytes = b"\x5a") -> RasterLine:
    size = rows * width_bytes
    return RasterLine(Line("x"), Picture(width_bytes, (pattern * (size // len(pattern) + 1))[:size]))


def a_sheet(*rows: NativeLine | RasterLine) -> Sheet:
    return Sheet(rows, profile_of(WIDE.brand), 48, 0, 0, False, False)


@pytest.mark.parametrize(("rows", "heights"), [(1, [1]), (128, [128]), (129, [128, 1]), (300, [128, 128, 44])])
def test_a_picture_goes_out_in_strips_of_at_most_128_rows(rows: int, heights: list[int]) -> None:
    row = a_picture(rows)
    printer = Printer(encode(a_sheet(row)))
    assert [(width, height) for width, height, _, _ in printer.strips] == [(72, height) for height in heights]
    assert b"".join(data for _, _, data, _ in printer.strips) == row.picture.data


@pytest.mark.parametrize(("second", "instead"), [(0x04, 0x0C), (0x05, 0x0D), (0x14, 0x1C)])
@pytest.mark.parametrize("offset", range(4))
@pytest.mark.parametrize("width_bytes", [1, 2, 3, 16])
def test_a_real_time_command_in_a_picture_loses_one_dot_also_across_row_ends_and_strips(
    second: int, instead: int, offset: int, width_bytes: int
) -> None:
    row = a_picture(129, width_bytes, bytes((0x10, second)) + b"\x00" * offset)
    data = encode(a_sheet(row, NativeLine(Line("Soto")), a_picture(16, width_bytes, b"\x04"), NativeLine(Line("4"))))
    assert not any(bytes((0x10, code)) in data for code in (0x04, 0x05, 0x14))
    sent = b"".join(strip for _, _, strip, _ in Printer(data).strips[:2])
    changed = {(before, after) for before, after in zip(row.picture.data, sent, strict=True) if before != after}
    assert changed == {(second, instead)}


@given(data=st.lists(st.sampled_from(b"\x10\x04\x05\x14\x0c\x1c\x00"), min_size=6, max_size=900))
def test_no_picture_holds_a_real_time_command_and_none_changes_by_more_than_it_must(data: list[int]) -> None:
    row = RasterLine(Line("x"), Picture(3, bytes(data[: len(data) // 3 * 3])))
    sent = encode(a_sheet(row))
    assert not any(bytes((0x10, code)) in sent for code in (0x04, 0x05, 0x14))
    strips = b"".join(strip for _, _, strip, _ in Printer(sent).strips)
    for at, (before, after) in enumerate(zip(row.picture.data, strips, strict=True)):
        assert after == before or (after == before ^ 8 and row.picture.data[at - 1] == 0x10)


def test_a_picture_stands_where_its_line_would_and_the_text_after_it_keeps_its_look() -> None:
    bold, centred = Line("a", bold=True), Line("x", align=Align.CENTER)
    rows = (NativeLine(bold), replace(a_picture(8), line=centred), NativeLine(bold))
    printer = Printer(encode(a_sheet(*rows)))
    assert [strip[3] for strip in printer.strips] == [True]
    assert [(line.bold, line.centred) for line in printer.lines] == [(True, False), (True, False)]


def test_the_senders_settings_stand_right_after_the_reset_that_would_undo_them() -> None:
    asb = b"\x1da\x0f"
    assert render(a_document(Line("Soto")), WIDE, after_reset=asb) == START + asb + b"Soto\n"


@pytest.mark.parametrize("pattern", [b"\x10\x04\x01", b"\x10\x05\x02", b"\x10\x14\x08"])
def test_a_real_time_command_never_leaves(pattern: bytes) -> None:
    with pytest.raises(Unrenderable, match="real-time command") as raised:
        render(a_document(Line("Soto")), WIDE, after_reset=pattern)
    assert raised.value.reason is Reason.UNRENDERABLE


def test_commands_hidden_in_an_order_come_out_as_harmless_text() -> None:
    evil = "\x1b@\x1dV0\x10\x04\x01\x10\x14\x08\x01\x03\x14\x01\x06\x02\x08\x9b"
    ticket = a_ticket(
        Item(1, f"Soto{evil}", (evil,), evil), table=evil, bill_notes=evil, customer_name=evil, waiter=evil
    )
    printer = Printer(render(compose(ticket, WIDE), WIDE))
    assert (printer.resets, printer.cuts) == (1, 1)
    assert any("Soto@V0" in line.text for line in printer.lines)


@pytest.mark.parametrize("name", profile_names())
def test_every_character_of_a_page_is_printed_as_itself(name: str) -> None:
    model = profile(name)
    for page in model.pages:
        text = "".join(page.codes)
        printer = Printer(encode(replace(a_sheet(*(NativeLine(Line(char)) for char in text)), profile=model)), model)
        assert [line.text for line in printer.lines] == list(text)


ORDER_TEXT = st.text(
    st.sampled_from("ab é–€ж\n\x1b\x1d\x10\x04\x05\x14\u202e少辣한ก็😀|+") | st.characters(), max_size=60
)


PAPERS = st.builds(
    PaperFormat,
    st.integers(0, 100),
    st.sampled_from([58, 80]),
    st.sampled_from(["", "epson", "hprt", "rongta", "star"]),
    st.sampled_from(["", "EPSON TM-U220", "EPSON TM-T88V"]),
)


@settings(deadline=None)  # The first picture of a process opens the fonts.
@given(
    paper=PAPERS,
    checker=st.booleans(),
    name=ORDER_TEXT,
    other=ORDER_TEXT,
    feed_lines=st.integers(0, MAX_FEED_LINES),
    top_feed_lines=st.integers(0, MAX_FEED_LINES),
    cut=st.booleans(),
)
def test_whatever_the_order_says_the_printer_gets_the_sheets_text_and_pictures_and_no_other_command(
    paper: PaperFormat, checker: bool, name: str, other: str, feed_lines: int, top_feed_lines: int, cut: bool
) -> None:
    ticket = replace(
        a_ticket(Item(2, name, (other,), other, station=name), table=name, bill_notes=other, customer_name=other),
        checker=checker,
        template=Template(header_lines=(name,), footer_lines=(other,), feed_lines=feed_lines, auto_cut=cut),
        marks=Marks(None, True, (name, other), backup_for=other, backup_reason=name, late_minutes=5),
    )
    sheet = lay_out(compose(ticket, paper, PaperStyle(top_feed_lines=top_feed_lines)), paper)
    data = encode(sheet)
    printer = Printer(data, sheet.profile)
    assert [line.text for line in printer.lines] == [row.line.text for row in sheet.rows if isinstance(row, NativeLine)]
    assert all(columns(line.text) * line.width <= columns_of(paper) for line in printer.lines)
    assert all(width * 8 <= paper.width_mm * 8 and 0 < height <= 128 for width, height, _, _ in printer.strips)
    pictures = [row.picture for row in sheet.rows if isinstance(row, RasterLine)]
    assert sum(height for _, height, _, _ in printer.strips) == sum(picture.height for picture in pictures)
    assert sheet.profile.raster or not pictures
    assert (printer.resets, printer.fed, printer.cuts) == (1, feed_lines + top_feed_lines, int(cut))
    assert {Kind.UNKNOWN, Kind.REAL_TIME}.isdisjoint(kinds_of(data))


def kinds_of(data: bytes) -> set[Kind]:
    """The commands that the virtual printer finds in the bytes, down to the last one."""
    decoder, waiting, kinds = Decoder(), bytearray(data), set()
    while waiting:
        step = decoder.next(waiting)
        assert step.consumed, "a command is cut off"
        del waiting[: step.consumed]
        if step.command is not None:
            kinds.add(step.command.kind)
    assert decoder.idle
    return kinds


def test_looks_survive_the_way_to_the_paper() -> None:
    document = compose(replace(a_ticket(Item(2, "Soto", ("Pedas",))), marks=Marks(late_minutes=3)), WIDE)
    printed = Printer(render(document, WIDE)).lines
    assert [(line.width, line.height, line.bold, line.inverse, line.centred) for line in printed] == [
        (line.size.width, line.size.height, line.bold, line.inverse, line.align is Align.CENTER)
        for line in document.lines
    ]


def test_a_ticket_of_two_hundred_items_and_a_long_note_is_laid_out_whole() -> None:
    ticket = a_ticket(*(Item(n, f"Dish {n}") for n in range(1, 201)), bill_notes="少x" * 3000)
    sheet = lay_out(compose(ticket, WIDE), WIDE)
    text = ink("".join(row.line.text for row in sheet.rows)).replace("│", "")
    assert all(f"{n}xDish{n}" in text for n in range(1, 201))
    assert "少x" * 3000 in text or "[U+5C11]x" * 3000 in text
    assert Printer(encode(sheet)).cuts == 1


def test_rendering_again_gives_the_same_bytes() -> None:
    warm_up()
    document = compose(a_ticket(Item(1, "Crème – Борщ")), WIDE)
    assert render(document, WIDE) == render(document, WIDE)


RENDER_IN_A_FRESH_PROCESS = """
import logging, os, sys, tempfile
import kps.paper.escpos as paper
from kps.core.document import Document, Line
from kps.core.tickets import PaperFormat

def assert_no_more_than_the_constants():
    loaded = {name for name in sys.modules if name.split(".")[0] == "escpos"}
    assert loaded == {"escpos", "escpos.constants", "escpos.types", "escpos.version"}, loaded

paper.warm_up()
assert_no_more_than_the_constants()
assert "PIL" not in sys.modules, "Pillow was loaded for a ticket without a picture"
paper.render(Document((Line("宫保鸡丁"),), 0, True), PaperFormat(48, 80))
assert "PIL" in sys.modules, "no line was drawn"
assert_no_more_than_the_constants()
assert logging.getLogger().handlers == [], "logging was configured behind our back"
assert os.listdir(tempfile.gettempdir()) == [], os.listdir(tempfile.gettempdir())
"""


def test_a_ticket_needs_the_constants_of_python_escpos_alone_and_pillow_only_for_pictures(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RENDER_IN_A_FRESH_PROCESS],
        cwd=Path(kps.__file__).parents[1],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
