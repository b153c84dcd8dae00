"""Each line of a document is on the sheet, whole: as the printer's own text, as a picture, or spelled out."""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kps.core.document import Align, Document, Line, Size, Unrenderable, columns_of
from kps.core.text import clean, columns, wrap
from kps.core.tickets import PaperFormat
from kps.paper import fonts, layout, raster
from kps.paper.ink import _font, ink_of
from kps.paper.layout import NativeLine, RasterLine, Sheet, is_native, lay_out
from kps.paper.profiles import CodePage, profile_of
from kps.paper.raster import Picture
from kps.paper.runs import runs

WIDE = PaperFormat(48, 80, "hprt")
NARROW = PaperFormat(32, 58, "hprt")
LATIN, THAI, SINHALA = (
    next(path for path in fonts._files(fonts._installed_folders()) if path.name.startswith(name))
    for name in ("DejaVuSansMono", "NotoSansThai", "NotoSansSinhala")
)
IMPACT = PaperFormat(33, 80, "epson", "EPSON TM-U220")
MISSING = "\U0010abcd"
"""Private use, so that no font of any machine has it."""

TEN = {
    "zh": "宫保鸡丁 少辣", "ja": "ラーメン 餃子", "ko": "비빔밥 곱빼기", "th": "ต้มยำกุ้ง น้ำข้น", "ar": "شاي بالنعناع",
    "he": "חומוס עם פיתה", "vi": "Phở bò tái", "el": "Μουσακάς", "ru": "Борщ со сметаной", "hi": "पनीर बटर मसाला",
    "emoji": "🍜 🌶 hot",
}  # fmt: skip


def sheet_of(*lines: Line, paper: PaperFormat = WIDE) -> Sheet:
    return lay_out(Document(lines, 0, False), paper)


def ink(text: str) -> str:
    return "".join(text.split())


def dots(picture: Picture) -> list[str]:
    """The rows of a picture as text of 0 and 1."""
    width = picture.width_bytes
    rows = [picture.data[at : at + width] for at in range(0, len(picture.data), width)]
    return ["".join(f"{byte:08b}" for byte in row) for row in rows]


@pytest.mark.parametrize("text", ["2 x Soto", "Crème brûlée", "5 € – x", "Žluťoučký", "│ no onion │"])
def test_a_line_that_the_pages_have_stays_the_printers_own(text: str) -> None:
    assert sheet_of(Line(text)).rows == (NativeLine(Line(text)),)


@pytest.mark.parametrize("text", TEN.values(), ids=TEN.keys())
@pytest.mark.parametrize("size", Size)
def test_a_line_in_any_script_is_a_picture_of_the_whole_width_and_of_its_neighbours_height(
    text: str, size: Size
) -> None:
    line = Line(text, size)
    paper = PaperFormat(48, 80, "plain")
    (row,) = sheet_of(line, paper=paper).rows
    assert isinstance(row, RasterLine)
    assert row.line == line
    assert row.picture.width_bytes * 8 == 576
    assert row.picture.height == max(30, 24 * size.height)
    assert "1" in "".join(dots(row.picture))


def test_one_foreign_character_makes_only_its_own_line_a_picture() -> None:
    kinds = [type(row) for row in sheet_of(Line("Soto"), Line("2 x 少"), Line("Teh")).rows]
    assert kinds == [NativeLine, RasterLine, NativeLine]


def test_a_frame_never_makes_a_picture() -> None:
    frame = [Line("┌──┐"), Line("│ab│"), Line("└──┘")]
    assert [row.line.text for row in sheet_of(*frame, paper=PaperFormat(48, 80, "plain")).rows] == [
        "+--+",
        "|ab|",
        "+--+",
    ]


def test_the_frame_around_a_picture_is_of_the_kind_of_the_lines_above_and_below() -> None:
    text = "│少│"
    assert [row.line.text for row in sheet_of(Line(text)).rows] == ["│少│"]
    assert [row.line.text for row in sheet_of(Line(text), paper=PaperFormat(48, 80, "plain")).rows] == ["|少|"]


def test_a_printer_without_pictures_gets_letters_that_it_has() -> None:
    rows = sheet_of(Line("2 x 宫保鸡丁"), Line("ALLERGY", inverse=True), paper=IMPACT).rows
    assert all(isinstance(row, NativeLine) and not row.line.inverse for row in rows)
    assert rows[0].line.text == "2 x Gong Bao Ji Ding"


def test_what_grew_by_transliteration_is_broken_again_under_its_indent() -> None:
    rows = sheet_of(Line("12 x " + 10 * "宫", Size.DOUBLE, indent=5), paper=IMPACT).rows
    assert len(rows) > 1
    assert all(row.line.text.startswith("     ") for row in rows[1:])
    assert all(columns(row.line.text) * 2 <= 33 for row in rows)


def test_what_no_font_has_is_spelled_out_by_the_printer_itself_if_it_can_write_the_rest() -> None:
    assert sheet_of(Line(f"2 x {MISSING}")).rows == (NativeLine(Line("2 x [U+10ABCD]")),)


def test_what_no_font_has_is_spelled_out_inside_a_picture_too() -> None:
    (row,) = sheet_of(Line(f"少 {MISSING}")).rows
    assert isinstance(row, RasterLine)
    assert row.line.text == "少 [U+10ABCD]"


def test_a_mark_with_nothing_to_stand_on_is_spelled_out() -> None:
    assert sheet_of(Line("\u0301a")).rows[0].line.text == "[U+0301]a"


def test_a_machine_without_fonts_prints_what_the_printer_has_and_codes_for_the_rest(no_fonts: None) -> None:
    rows = sheet_of(Line("Crème"), Line("少辣 é"), Line("ALLERGY 花生", Size.DOUBLE, inverse=True)).rows
    assert [ink(row.line.text) for row in rows] == ["Crème", "[U+5C11][U+8FA3]é", "ALLERGY[U+82B1]", "[U+751F]"]
    assert all(isinstance(row, NativeLine) for row in rows)


@pytest.mark.parametrize("text", ["LATE 3 MIN", "ALLERGY 花生", "น้ำ กุ้ง"])
@pytest.mark.parametrize("size", [Size.NORMAL, Size.TALL, Size.DOUBLE])
def test_a_bar_reaches_from_edge_to_edge(text: str, size: Size) -> None:
    (row,) = sheet_of(Line(text, size, inverse=True, align=Align.CENTER)).rows
    assert row.line.text.strip() == text
    assert columns(row.line.text) * size.width == 48
    if isinstance(row, RasterLine):
        rows = dots(row.picture)
        assert all(line[0] == line[-1] == "1" for line in rows[: 24 * size.height])
        assert all("1" not in line for line in rows[24 * size.height :])
        assert "0" in "".join(rows[: 24 * size.height])


def test_a_centred_bar_that_cannot_fill_the_paper_is_black_around_its_own_text() -> None:
    (row,) = sheet_of(Line("花", Size.HUGE, inverse=True, align=Align.CENTER), paper=NARROW).rows
    assert isinstance(row, RasterLine)
    first = dots(row.picture)[0]
    assert re.fullmatch("0{12}1{144}[01]{72}1{144}0{12}", first)


def test_fonts_without_plain_letters_draw_nothing(tmp_path: Path, no_fonts: None) -> None:
    shutil.copy(THAI, tmp_path)
    (row, *_) = lay_out(Document((Line("ก A"),), 0, False), WIDE, font_dirs=(str(tmp_path),)).rows
    assert isinstance(row, NativeLine)
    assert row.line.text == "[U+0E01] A"


def test_marks_and_letters_from_right_to_left_are_never_left_to_the_printer() -> None:
    page = CodePage("cp862 with accents", 36, {"ש": 0x99, "\u0301": 0x80, "é": 0x82, "٥": 0x83})
    model = replace(profile_of("hprt"), pages=(page,))
    assert [is_native(model, char) for char in "é5ש٥\u0301€"] == [True, True, False, False, False, False]


@pytest.mark.parametrize(("copies", "text"), [(1, "[U+0E01][U+0E38][U+0E49][U+0E07]"), (2, "กุ้ง")])
@pytest.mark.parametrize("later", [Line("กุ้ง", Size.TALL), Line("กุ้ง", bold=True)])
def test_a_font_that_goes_away_while_we_run_is_done_without(
    tmp_path: Path, no_fonts: None, later: Line, copies: int, text: str
) -> None:
    """Also if the word has been measured with it, and only has to be drawn."""
    mine = [Path(shutil.copy(THAI, tmp_path / f"mine{number}.ttf")) for number in range(copies)]
    shutil.copy(LATIN, tmp_path)
    (before,) = lay_out(Document((Line("กุ้ง"),), 0, False), WIDE, font_dirs=(str(tmp_path),)).rows
    mine[0].unlink()
    for opened in (fonts.open_face, _font, ink_of):
        opened.cache_clear()
    after = lay_out(Document((later,), 0, False), WIDE, font_dirs=(str(tmp_path),)).rows
    assert isinstance(before, RasterLine)
    assert "".join(ink(row.line.text) for row in after) == text


def test_in_a_picture_even_what_the_printer_could_write_is_spelled_out_if_no_font_has_it(
    tmp_path: Path, no_fonts: None
) -> None:
    # A plain alphabet, and no Cyrillic.
    for font in (THAI, SINHALA):
        shutil.copy(font, tmp_path)
    rows = lay_out(Document((Line("กุ้ง ж"), Line("ж")), 0, False), WIDE, font_dirs=(str(tmp_path),)).rows
    assert [type(row) for row in rows] == [RasterLine, NativeLine]
    assert [row.line.text for row in rows] == ["กุ้ง [U+0436]", "ж"]


@pytest.mark.parametrize(
    ("chars", "width_mm", "dots_wide"), [(48, 58, 384), (36, 58, 432), (64, 80, 576), (53, 80, 640)]
)
def test_text_and_pictures_have_the_same_cells_and_fit_the_paper(chars: int, width_mm: int, dots_wide: int) -> None:
    paper = PaperFormat(chars, width_mm)
    sheet = sheet_of(Line("少"), paper=paper)
    (row,) = sheet.rows
    assert isinstance(row, RasterLine)
    assert row.picture.width_bytes * 8 == dots_wide
    assert sheet.columns * sheet.profile.cell_width <= dots_wide < sheet.columns * sheet.profile.cell_width + 8


def different(count: int, first: int = 0x4E00) -> str:
    return "".join(map(chr, range(first, first + count)))


def in_lines(text: str, width: int = 24) -> tuple[Line, ...]:
    return tuple(Line(text[at : at + width]) for at in range(0, len(text), width))


def test_what_is_too_much_to_draw_is_written_in_letters_that_the_printer_has(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text = different(240)
    monkeypatch.setattr(layout, "_MAX_DRAWN", 200)
    with caplog.at_level(logging.WARNING, "kps.paper.layout"):
        rows = sheet_of(*in_lines(text), Line("少")).rows
    assert [type(row) for row in rows[:4]] == [RasterLine] * 4
    assert all(isinstance(row, NativeLine) and row.line.text.isascii() for row in rows[4:])
    assert rows[-1].line.text == "Shao", "nor what would still have been little enough"
    assert [record.getMessage() for record in caplog.records] == ["too much to draw"]


def test_a_budget_for_drawing_is_a_sheets_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_MAX_DRAWN", 2)
    for _ in range(2):
        assert [type(row) for row in sheet_of(Line("少"), Line("少")).rows] == [RasterLine, NativeLine]


def test_a_frame_around_what_is_too_much_to_draw_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets as wide as its text in other letters, and is not half drawn."""
    monkeypatch.setattr(layout, "_MAX_DRAWN", 20)
    frame = framed(["少辣少辣", "少辣"], indent=4)
    rows = sheet_of(Line("少辣少辣"), *frame).rows
    assert [type(row) for row in rows] == [RasterLine] + [NativeLine] * (len(rows) - 1)
    assert [row.line.text for row in rows[1:]] == [
        line.text for line in framed(["Shao La Shao La", "Shao La"], indent=4)
    ]


def framed(texts: list[str], indent: int) -> list[Line]:
    width = max(map(columns, texts))
    inside = [f"│ {text}{' ' * (width - columns(text))} │" for text in texts]
    return [
        Line(" " * indent + text, Size.TALL, indent=indent)
        for text in (f"┌{'─' * (width + 2)}┐", *inside, f"└{'─' * (width + 2)}┘")
    ]


def test_a_frame_is_as_wide_as_its_text_on_a_printer_with_needles_and_without_fonts(no_fonts: None) -> None:
    frame = framed(["少辣", "mild"], indent=4)
    assert [row.line.text for row in sheet_of(*frame, paper=IMPACT).rows] == [
        line.text for line in framed(["Shao La", "mild"], indent=4)
    ]
    assert [row.line.text for row in sheet_of(*frame).rows] == [
        line.text for line in framed(["[U+5C11] [U+8FA3]", "mild"], indent=4)
    ]


def test_a_life_sign_is_given_for_each_picture() -> None:
    signs: list[int] = []
    sheet = lay_out(
        Document((Line("少"), Line("Soto"), Line("辣")), 0, False), WIDE, pulse=lambda: signs.append(len(signs))
    )
    assert len(signs) == sum(isinstance(row, RasterLine) for row in sheet.rows) == 2


def test_rows_that_have_grown_beyond_any_paper_are_refused() -> None:
    lines = (Line("\U0010abcd" * 40),) * 1500
    with pytest.raises(Unrenderable, match="more than 3000 lines long"):
        lay_out(Document(lines, 0, False), WIDE)


def test_marks_that_a_font_sets_side_by_side_are_spelled_out_before_they_burst_the_picture() -> None:
    """Unclean text: `clean` leaves no letter so many."""
    text = "क" + "\u0902" * 400
    rows = sheet_of(Line(text), Line("क")).rows
    assert _joined(Sheet(rows[:-1], profile_of("hprt"), 48, 0, 0, cut=False, beep=False)) == (
        "[U+0915]" + "[U+0902]" * 400
    )
    assert all(isinstance(row, NativeLine) for row in rows[:-1])


def test_a_font_whose_plain_letters_are_too_wide_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster, "_WIDEST", 0.1)
    raster.forget()
    assert sheet_of(Line("Soto 少"), Line("少 Soto")).rows == (
        NativeLine(Line("Soto Shao")),
        NativeLine(Line("[U+5C11] Soto")),
    )


def test_a_joiner_is_neither_spelled_out_nor_left_at_a_code() -> None:
    (row,) = sheet_of(Line("می\u200cخواهم")).rows
    assert isinstance(row, RasterLine)
    assert row.line.text == "می\u200cخواهم"


def test_a_joiner_of_letters_without_font_vanishes(tmp_path: Path, no_fonts: None) -> None:
    shutil.copy(SINHALA, tmp_path)
    document = Document((Line("م\u200cی"),), 0, False)
    assert _joined(lay_out(document, WIDE, font_dirs=(str(tmp_path),))) == "[U+0645][U+06CC]"


@pytest.mark.parametrize("length", range(1, 39))
def test_a_bar_on_a_printer_with_needles_has_asterisks_at_both_ends_or_none(length: int) -> None:
    (row,) = sheet_of(Line("x" * length, inverse=True), paper=PaperFormat(40, 80, "epson", "EPSON TM-U220")).rows
    text = row.line.text
    assert columns(text) <= 40
    assert text.startswith("*")
    assert text.endswith("*")
    assert abs((len(text) - len(text.lstrip("*"))) - (len(text) - len(text.rstrip("*")))) <= 1


def test_the_sheet_keeps_what_the_document_wants_besides_its_lines() -> None:
    sheet = lay_out(Document((), 3, True, feed_before=2, beep=True), NARROW)
    assert (sheet.columns, sheet.feed_before, sheet.feed_lines, sheet.cut, sheet.beep) == (32, 2, 3, True, True)


ANY_TEXT = (
    st.text(st.sampled_from("ab é–€ж少辣한กุ้ش ب 1(😀क्षि\u0301│─") | st.characters(), max_size=50)
    .map(clean)
    .filter(lambda text: "[" not in text and "]" not in text)
)


@settings(deadline=None)  # The first picture of a process opens the fonts.
@given(
    text=ANY_TEXT,
    size=st.sampled_from(Size),
    inverse=st.booleans(),
    align=st.sampled_from(Align),
    paper=st.sampled_from([WIDE, NARROW, PaperFormat(42, 80), PaperFormat(48, 80, "plain"), PaperFormat(33, 58)]),
)
def test_every_character_of_any_text_is_on_the_paper_and_none_is_blank(
    text: str, size: Size, inverse: bool, align: Align, paper: PaperFormat
) -> None:
    look = Line("", size, inverse=inverse, align=align)
    lines = [Line(part, size, False, inverse, align) for part in wrap(text, look.room(columns_of(paper)))]
    sheet = sheet_of(*lines, paper=paper)
    shown = re.sub(r"\[U\+([0-9A-F]{4,6})\]", lambda code: chr(int(code[1], 16)), _joined(sheet))
    plain = str.maketrans("─│", "-|")
    assert shown.translate(plain) == "".join(ink(line.text) for line in lines).translate(plain)
    for row in sheet.rows:
        assert columns(row.line.text) * size.width <= columns_of(paper)
        if isinstance(row, RasterLine) and not inverse:
            assert_nothing_is_blank(row, columns_of(paper))


def _joined(sheet: Sheet) -> str:
    return "".join(ink(row.line.text) for row in sheet.rows)


def assert_nothing_is_blank(row: RasterLine, paper_columns: int) -> None:
    """Each run has ink in its own columns."""
    rows = dots(row.picture)
    cell = row.line.size.width * (len(rows[0]) // paper_columns)
    free = paper_columns * cell // row.line.size.width - columns(row.line.text) * cell
    left = free // 2 if row.line.align is Align.CENTER else 0
    for run in runs(row.line.text):
        right = left + run.columns * cell
        assert run.text == " " or any("1" in line[left:right] for line in rows), f"{run.text!r} is blank"
        left = right
