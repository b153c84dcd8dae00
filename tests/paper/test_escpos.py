"""The bytes of a ticket hold our own commands, the text of the document, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kps
from kps.core.document import Align, Document, Line, Size, Unrenderable, columns_of, compose
from kps.core.text import columns
from kps.core.tickets import Item, Marks, PaperFormat, Reason, Template, Ticket, TicketId
from kps.paper.escpos import brand_of, render, warm_up

WIDE = PaperFormat(48, 80)
PAGES = {0: "cp437", 2: "cp850", 16: "cp1252", 17: "cp866", 18: "cp852", 19: "cp858"}
START = b"\x1b@\x1c."


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

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.lines: list[PrintedLine] = []
        self.look = PrintedLine("")
        self.text, self.page = "", ""
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
            assert first[0] < 0x80 or self.page, "a byte of no known page"
            self.text += first.decode(self.page or "ascii")

    def command(self, name: bytes) -> None:
        if name == b"\x1b@":
            self.resets += 1
            assert self.at == 2, "reset inside the ticket"
        elif name == b"\x1c.":
            assert self.at == 4
        elif name == b"\x1bt":
            self.page = PAGES[self.take()[0]]
        elif name == b"\x1d!":
            size = self.take()[0]
            self.look = replace(self.look, width=(size >> 4) + 1, height=(size & 7) + 1)
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


def a_document(*lines: Line, feed_lines: int = 0, cut: bool = False) -> Document:
    return Document(lines, feed_lines, cut)


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
        (a_document(Line("少")), START + b"[U+5C11]\n"),
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
    data = render(a_document(Line("12 x 宫保鸡丁", Size.DOUBLE, indent=5)), PaperFormat(32, 58))
    assert [line.text for line in Printer(data).lines] == [
        "12 x [U+5BAB]",
        "     [U+4FDD]",
        "     [U+9E21]",
        "     [U+4E01]",
    ]


def test_a_rewrapped_detail_keeps_its_place_under_the_item() -> None:
    data = render(a_document(Line("    tanpa bawang 少辣不要香菜", indent=4)), PaperFormat(32, 58))
    lines = [line.text for line in Printer(data).lines]
    assert len(lines) > 1
    assert all(line.startswith("    ") for line in lines)


@pytest.mark.parametrize(
    ("brand", "start"),
    [("", START), ("HRPT", START), ("no such brand", START), ("EPSON", b"\x1b@"), (" Epson ", b"\x1b@")],
)
def test_kanji_mode_is_switched_off_unless_the_brand_is_known_to_have_none(brand: str, start: bytes) -> None:
    assert render(a_document(Line("Soto")), PaperFormat(48, 80, brand)) == start + b"Soto\n"


def test_an_unknown_brand_is_printed_like_a_generic_one() -> None:
    assert brand_of(PaperFormat(48, 80, "acme")) is brand_of(PaperFormat(48, 80, "generic"))


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
    assert "1 x Soto@V0" in [line.text for line in printer.lines]


def test_every_character_of_a_page_is_printed_as_itself() -> None:
    for page in brand_of(WIDE).pages:
        text = "".join(page.codes)
        lines = Printer(render(a_document(*map(Line, text)), WIDE)).lines
        assert [line.text for line in lines] == list(text)
        assert PAGES[page.number] == page.name


ORDER_TEXT = st.text(
    st.sampled_from("ab é–€ж\n\x1b\x1d\x10\x04\x05\x14\u202e少辣한ก็😀|+") | st.characters(), max_size=60
)


@given(
    paper=st.builds(PaperFormat, st.integers(0, 100), st.sampled_from([58, 80]), st.sampled_from(["", "epson"])),
    checker=st.booleans(),
    name=ORDER_TEXT,
    other=ORDER_TEXT,
    feed_lines=st.integers(0, 255),
    cut=st.booleans(),
)
def test_whatever_the_order_says_the_printer_gets_the_documents_text_and_no_other_command(
    paper: PaperFormat, checker: bool, name: str, other: str, feed_lines: int, cut: bool
) -> None:
    ticket = replace(
        a_ticket(Item(2, name, (other,), other, station=name), table=name, bill_notes=other, customer_name=other),
        checker=checker,
        template=Template(header_lines=(name,), footer_lines=(other,), feed_lines=feed_lines, auto_cut=cut),
        marks=Marks(None, True, (name, other), other, 5),
    )
    document = compose(ticket, paper)
    printer = Printer(render(document, paper))
    encodable = brand_of(paper).encodable
    expected = "".join(
        char if encodable(char) else f"[U+{ord(char):04X}]" for line in document.lines for char in ink(line.text)
    )
    assert ink("".join(line.text for line in printer.lines)) == expected
    assert all(columns(line.text) * line.width <= columns_of(paper) for line in printer.lines)
    assert (printer.resets, printer.fed, printer.cuts) == (1, feed_lines, int(cut))


def test_looks_survive_the_way_to_the_paper() -> None:
    document = compose(replace(a_ticket(Item(2, "Soto", ("Pedas",))), marks=Marks(late_minutes=3)), WIDE)
    printed = Printer(render(document, WIDE)).lines
    assert [(line.width, line.height, line.bold, line.inverse, line.centred) for line in printed] == [
        (line.size.width, line.size.height, line.bold, line.inverse, line.align is Align.CENTER)
        for line in document.lines
    ]


def test_a_ticket_of_two_hundred_items_and_a_long_note_is_rendered_whole() -> None:
    note = "少x" * 5000
    ticket = a_ticket(*(Item(n, f"Dish {n}") for n in range(1, 201)), bill_notes=note)
    lines = [line.text for line in Printer(render(compose(ticket, WIDE), WIDE)).lines]
    assert [text for text in lines if " x Dish " in text] == [f"{n} x Dish {n}" for n in range(1, 201)]
    assert "[U+5C11]x" * 5000 in ink("".join(lines))


def test_rendering_again_gives_the_same_bytes() -> None:
    warm_up()
    document = compose(a_ticket(Item(1, "Crème – Борщ")), WIDE)
    assert render(document, WIDE) == render(document, WIDE)


RENDER_IN_A_FRESH_PROCESS = """
import logging, os, sys, tempfile
import kps.paper.escpos as paper
assert "escpos" not in sys.modules, "imported before the first ticket"
paper.warm_up()
assert "escpos" in sys.modules
assert logging.getLogger().handlers == [], "logging was configured behind our back"
assert os.listdir(tempfile.gettempdir()) == [], os.listdir(tempfile.gettempdir())
print(tempfile.gettempdir())
"""


def run_in_a_fresh_process(temporary: Path, **settings: str) -> None:
    temporary.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ESCPOS_CAPABILITIES_PICKLE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", RENDER_IN_A_FRESH_PROCESS],
        cwd=Path(kps.__file__).parents[1],
        env=environment | {"TMPDIR": str(temporary)} | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(temporary)
    assert list(temporary.iterdir()) == []


def test_importing_and_rendering_leave_no_temporary_file_and_no_log_handler(tmp_path: Path) -> None:
    run_in_a_fresh_process(tmp_path / "temporary")


def test_a_cache_of_profiles_is_used_where_the_operator_made_one(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    run_in_a_fresh_process(tmp_path / "temporary", ESCPOS_CAPABILITIES_PICKLE_DIR=str(cache))
    assert len(list(cache.iterdir())) == 1


def test_a_cache_folder_that_cannot_be_written_does_not_stop_printing(tmp_path: Path) -> None:
    run_in_a_fresh_process(tmp_path / "temporary", ESCPOS_CAPABILITIES_PICKLE_DIR=str(tmp_path / "missing"))
