"""The preview and the printer show the same paper: text, look and place of every line, every dot of every picture."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from kps.core.document import Align, Document, Line, Size
from kps.core.text import clean, columns, wrap
from kps.core.tickets import PaperFormat, Priority
from kps.demo.virtual_printer import Align as PaperAlign
from kps.demo.virtual_printer import Line as PaperLine
from kps.demo.virtual_printer import Machine, Paper, Raster, settings_for
from kps.paper import preview
from kps.paper.escpos import encode
from kps.paper.fonts import WITH_US
from kps.paper.layout import NativeLine, Picture, RasterLine, Sheet, lay_out
from kps.paper.preview import END_MARGIN, png_of, text_of
from kps.paper.profiles import CodePage, Profile
from tests.paper.gallery import EXHIBITS, FOLDER, HEADINGS, PAGE, Exhibit, in_words

THERMAL = Profile("thermal", (), False, True, 12, 24, 30, b"\x1bB\x02\x01", "default")
PAPERS = [
    PaperFormat(32, 58, "generic"),
    PaperFormat(42, 80, "EPSON"),
    PaperFormat(48, 80, "HRPT"),
    PaperFormat(48, 80, "XPRINTER"),
    PaperFormat(42, 76, "EPSON", "TM-U220"),
]


def a_sheet(*rows: NativeLine | RasterLine, columns: int = 32, **fields: object) -> Sheet:
    return replace(
        Sheet(rows, THERMAL, columns, 0, 0, cut=False, beep=False, width_mm=58 if columns <= 36 else 80), **fields
    )  # type: ignore[arg-type]


def native(text: str, size: Size = Size.NORMAL, **look: object) -> NativeLine:
    return NativeLine(replace(Line(text, size), **look))  # type: ignore[arg-type]


def image_of(sheet: Sheet) -> Image.Image:
    return Image.open(io.BytesIO(png_of(sheet)))


def is_white(image: Image.Image) -> bool:
    return black_dots(image) == 0


def is_black(image: Image.Image) -> bool:
    return black_dots(image) == image.width * image.height > 0


def black_dots(image: Image.Image) -> int:
    return image.convert("L").histogram()[0]


# The text.


def test_the_text_shows_every_row_in_its_place_and_what_the_printer_does_besides() -> None:
    sheet = a_sheet(
        native("LATE 3 MIN".center(32), Size.TALL, inverse=True, align=Align.CENTER),
        native("TABLE 5", Size.HUGE, bold=True, align=Align.CENTER),
        native("2 x Nasi", Size.DOUBLE, bold=True),
        native("    Goreng", Size.DOUBLE, bold=True),
        native("    + pedas", Size.TALL),
        RasterLine(Line("1 x 宫保鸡丁", Size.DOUBLE), Picture(48, bytes(48 * 48))),
        RasterLine(Line("过敏", inverse=True, align=Align.CENTER), Picture(48, bytes(48 * 30))),
        feed_before=1,
        feed_lines=2,
        cut=True,
        beep=True,
    )
    assert text_of(sheet).split("\n") == [
        "[beep]",
        "",
        "########## LATE 3 MIN ##########",
        "            TABLE 5",
        "2 x Nasi",
        "        Goreng",
        "    + pedas",
        "1 x 宫保鸡丁",
        "############# 过敏 #############",
        "",
        "",
        "- - - - - - - cut - - - - - - -",
    ]


def test_a_sheet_that_is_not_cut_and_not_heard_shows_neither() -> None:
    assert text_of(a_sheet(native("soup"))) == "soup"
    assert text_of(a_sheet(native("soup"), beep=True, profile=replace(THERMAL, beep=b""))) == "soup"


@pytest.mark.parametrize("length", [1, 2, 29, 30, 31, 32])
def test_a_bar_of_any_length_fills_the_paper_and_no_more(length: int) -> None:
    text = text_of(a_sheet(native(("x" * length).center(32), inverse=True)))
    assert len(text) == 32
    assert text.strip("# ") == "x" * length


# The picture.


@pytest.mark.parametrize(
    ("columns", "paper", "left"), [(32, 464, 40), (36, 464, 16), (42, 640, 68), (48, 640, 32), (53, 640, 2)]
)
def test_the_picture_is_as_wide_as_the_paper_with_what_is_printed_in_the_middle(
    columns: int, paper: int, left: int
) -> None:
    image = image_of(a_sheet(native(" " * columns, inverse=True), columns=columns))
    assert (image.width, image.mode) == (paper, "1")
    assert is_black(image.crop((left, END_MARGIN, left + columns * 12, END_MARGIN + 24)))
    assert is_white(image.crop((0, 0, left, image.height)))
    assert is_white(image.crop((left + columns * 12, 0, paper, image.height)))


def test_the_picture_says_how_many_dots_an_inch_has() -> None:
    assert image_of(a_sheet(native("soup"))).info["dpi"] == pytest.approx((203, 203), abs=0.1)


@pytest.mark.parametrize(("size", "height"), [(Size.NORMAL, 30), (Size.TALL, 48), (Size.DOUBLE, 48), (Size.HUGE, 72)])
def test_a_line_takes_the_line_spacing_or_the_height_of_taller_characters(size: Size, height: int) -> None:
    alone = image_of(a_sheet(native("H", size))).height
    assert alone == height + 2 * END_MARGIN
    fed = a_sheet(native("H", size), native("H", size), feed_before=2, feed_lines=3)
    assert image_of(fed).height == 2 * height + 5 * 30 + 2 * END_MARGIN


def test_characters_are_enlarged_dot_by_dot() -> None:
    one = image_of(a_sheet(native("R"))).crop((40, END_MARGIN, 52, END_MARGIN + 24))
    huge = image_of(a_sheet(native("R", Size.HUGE))).crop((40, END_MARGIN, 76, END_MARGIN + 72))
    assert black_dots(one) > 20
    assert huge.tobytes() == one.resize((36, 72), Image.Resampling.NEAREST).tobytes()


def test_bold_is_darker_and_inverse_is_the_negative() -> None:
    def first(**look: object) -> Image.Image:
        return image_of(a_sheet(native("R", **look))).crop((40, END_MARGIN, 52, END_MARGIN + 24))

    assert black_dots(first(bold=True)) > black_dots(first())
    assert ImageChops.invert(first(inverse=True)).tobytes() == first().tobytes()


def test_a_frame_is_closed_where_its_characters_meet() -> None:
    frame = [native(text, Size.TALL) for text in ("┌─┐", "│x│", "└─┘")]
    image = image_of(a_sheet(*frame)).crop((40, END_MARGIN, 40 + 36, END_MARGIN + 144))
    top, bottom = 23, 144 - 24
    assert is_black(image.crop((6, top, 30, top + 1)))
    assert is_black(image.crop((6, bottom, 30, bottom + 1)))
    for left in (5, 29):
        assert is_black(image.crop((left, top, left + 1, bottom)))


def test_a_picture_line_is_shown_dot_by_dot_below_its_neighbour() -> None:
    data = bytes(number % 251 for number in range(48 * 30))
    image = image_of(a_sheet(native("above"), RasterLine(Line("像"), Picture(48, data))))
    strip = image.crop((40, END_MARGIN + 30, 40 + 384, END_MARGIN + 60))
    assert ImageChops.invert(strip).tobytes() == data


@pytest.mark.parametrize("char", "–€Žж")
def test_what_code_pages_have_is_drawn_with_a_letter_of_ours_and_no_box(char: str) -> None:
    """Pillow's own font lacks some, and which fonts the system has is its own matter."""
    lacking = preview._cell("\U0010abcd", 24, 48, False)
    assert preview._cell(char, 24, 48, False).tobytes() != lacking.tobytes()
    assert preview._font(24, 48).path == WITH_US / "DejaVuSansMono.ttf"


# The same paper by another way: the bytes, decoded by the virtual printer.


def printed(sheet: Sheet) -> Paper | None:
    """What comes out of a printer of that profile; None if nothing does."""
    profile = sheet.profile
    machine = Machine(
        settings_for(
            columns=sheet.columns,
            dots=sheet.columns * profile.cell_width,
            code_pages={page.number: page.name for page in profile.pages},
            kanji_default=profile.kanji_off,
            raster=profile.raster,
            line_rows=profile.line_height,
            nic_buffer=1 << 24,
            receive_buffer=1 << 24,
        ),
        count(0.0, 0.001).__next__,
    )
    machine.receive(machine.connect(), encode(sheet))
    machine.run()
    machine.finish()
    assert machine.beeps == int(sheet.beep and bool(profile.beep))
    assert len(machine.papers) <= 1
    return machine.papers[0] if machine.papers else None


def compare(sheet: Sheet) -> None:
    """The printer's paper against the preview's text and picture. The printer's side is not computed from the sheet."""
    paper = printed(sheet)
    if paper is None:
        assert text_of(sheet) in ("", "[beep]")
        return
    image = image_of(sheet)
    assert image.height == paper.rows + 2 * END_MARGIN
    lines = text_of(sheet).split("\n")
    if sheet.beep and sheet.profile.beep:
        assert lines.pop(0) == "[beep]"
    if sheet.cut:
        assert re.fullmatch("(- )+cut( -)+", lines.pop().strip())
    parts = paper.parts
    assert len(lines) == len(parts)
    dots = sheet.columns * sheet.profile.cell_width
    left = (image.width - dots) // 2
    inner = image.crop((left, END_MARGIN, left + dots, END_MARGIN + paper.rows))
    rows = [*[None] * sheet.feed_before, *sheet.rows, *[None] * sheet.feed_lines]
    for text, part, row in zip(lines, parts, rows, strict=True):
        if isinstance(part, Raster):
            assert isinstance(row, RasterLine)
            assert shown_words(text) == row.line.text.strip()
            strip = inner.crop((0, part.row, part.width_bytes * 8, part.row + part.height))
            assert ImageChops.invert(strip).tobytes() == part.data
            assert part.scale == 1
            assert part.width_bytes * 8 <= dots + 7
        elif row is None:
            assert (text, part.text) == ("", "")
            assert is_white(inner.crop((0, part.row, dots, part.row + part.rows)))
        else:
            assert isinstance(row, NativeLine)
            compare_text(text, part, sheet.columns)
            compare_dots(inner, part, sheet.profile)
    for above, below in pairwise(parts):
        assert below.row == above.row + (above.height if isinstance(above, Raster) else above.rows)


def shown_words(text: str) -> str:
    return re.sub(r"^#+ ?| ?#+$", "", text).strip() if text.startswith("#") and text.endswith("#") else text.strip()


def compare_text(text: str, line: PaperLine, paper_columns: int) -> None:
    assert columns(text) <= paper_columns
    if line.inverse:
        assert columns(text) == paper_columns
        assert re.fullmatch(rf"#* ?{re.escape(line.text.strip())} ?#*", text)
        assert len(line.text) * line.width > paper_columns - line.width
    elif line.align is PaperAlign.CENTER:
        assert text.strip() == line.text.strip()
        left = len(text) - len(text.lstrip())
        assert left == (paper_columns - columns(text.strip())) // 2
    else:
        body = line.text.lstrip(" ")
        start = (len(line.text) - len(body)) * line.width
        assert text == (" " * start + body).rstrip()


def compare_dots(inner: Image.Image, line: PaperLine, profile: Profile) -> None:
    """Ink in the cells of characters and nowhere else; in a bar the other way round."""
    width, height = profile.cell_width * line.width, profile.cell_height * line.height
    taken = len(line.text) * width
    left = (inner.width - taken) // 2 if line.align is PaperAlign.CENTER else 0
    whole = inner.crop((0, line.row, inner.width, line.row + line.rows)).convert("L")
    assert is_white(whole.crop((0, 0, left, line.rows)))
    assert is_white(whole.crop((left + taken, 0, inner.width, line.rows)))
    if line.rows > height:
        assert is_white(whole.crop((0, height, inner.width, line.rows)))
    for place, char in enumerate(line.text):
        cell = whole.crop((left + place * width, 0, left + (place + 1) * width, height))
        if line.inverse:
            cell = ImageChops.invert(cell)
        assert is_white(cell) is (char == " "), char
    looks = {(span.bold, span.inverse, span.width, span.height) for span in line.spans}
    assert len(looks) <= 1


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: f"{paper.brand}-{paper.model}-{paper.chars_per_line}")
@pytest.mark.parametrize("name", EXHIBITS)
def test_what_the_printer_prints_is_what_the_preview_shows(name: str, paper: PaperFormat) -> None:
    exhibit = replace(EXHIBITS[name], paper=paper)
    document = replace(exhibit.document(), feed_before=2, beep=True)
    compare(lay_out(document, paper))


def test_the_looks_of_the_printed_lines_are_those_of_the_sheet() -> None:
    sheet = EXHIBITS["headings"].sheet()
    paper = printed(sheet)
    assert paper is not None
    found = [
        (part.width, part.height, part.bold, part.inverse, part.align.value)
        for part in paper.parts
        if isinstance(part, PaperLine) and part.text
    ]
    wanted = [
        (row.line.size.width, row.line.size.height, row.line.bold, row.line.inverse, row.line.align.value)
        for row in sheet.rows
        if isinstance(row, NativeLine)
    ]
    assert found == wanted


def test_a_drawn_line_stands_among_the_lines_of_the_printed_paper() -> None:
    drawn = RasterLine(Line("宫保"), Picture(48, bytes(48 * 30)))
    paper = printed(a_sheet(native("above"), drawn, native("below")))
    assert paper is not None
    assert paper.shown == "above\n[image 384 x 30]\nbelow"
    assert paper.text == "above\nbelow"


SCRIPTS = [
    "nasi goreng ABC 0123 x#-+|.,",
    "éàçñßøåœ€–",
    "řžěščůő",
    "борщ сыр ЩЖ",
    "μουσακάς",
    "宫保鸡丁、",
    "天ぷらうどん",
    "김치찌개",
    "ผัดกะเพรา",
    "شاي بالنعناع",
    "פלאפל",
    "Phởđậu",
    "पनीर टिक्का",
    "🎂🌶🙏",
    "─│┌┐└┘",
    "\x10\x04\x05\x14\x1b@\u202e",
]


@st.composite
def lines(draw: st.DrawFn, paper_columns: int) -> Line:
    alphabet = "".join(draw(st.lists(st.sampled_from(SCRIPTS), min_size=1, max_size=3)))
    line = Line(
        "",
        draw(st.sampled_from(Size)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from(Align)),
    )
    words = clean(draw(st.text(alphabet, max_size=40))) or "x"
    indent = draw(st.integers(0, 3))
    text = wrap(words, line.room(paper_columns), first=" " * indent)[0]
    return replace(line, text=text)


@st.composite
def documents(draw: st.DrawFn) -> tuple[Document, PaperFormat]:
    paper = draw(st.sampled_from(PAPERS))
    found = draw(st.lists(lines(paper.chars_per_line), max_size=6))
    feeds = st.integers(0, 4)
    document = Document(tuple(found), draw(feeds), draw(st.booleans()), draw(feeds), draw(st.booleans()))
    return document, paper


@settings(deadline=None, max_examples=60)
@given(documents())
def test_any_document_is_printed_as_the_preview_shows_it(made: tuple[Document, PaperFormat]) -> None:
    document, paper = made
    compare(lay_out(document, paper))


def test_a_code_page_is_named_as_python_names_it() -> None:
    page = CodePage("cp866", 17, {"ж": 0xA6})
    sheet = a_sheet(native("ж"), profile=replace(THERMAL, pages=(page,)))
    paper = printed(sheet)
    assert paper is not None
    assert paper.text == "ж"


# docs/paper.md


def test_the_page_shows_every_picture_and_there_is_no_other() -> None:
    assert set(re.findall(r"\(paper/([\w-]+)\.png\)", PAGE.read_text("utf-8"))) == EXHIBITS.keys()
    assert {file.stem for file in FOLDER.glob("*.png")} == EXHIBITS.keys()


@pytest.mark.parametrize(("name", "exhibit"), EXHIBITS.items())
def test_a_picture_of_the_page_has_the_size_of_todays_paper(name: str, exhibit: Exhibit) -> None:
    assert "[U+" not in text_of(exhibit.sheet())
    with Image.open(FOLDER / f"{name}.png") as stored:
        assert stored.size == image_of(exhibit.sheet()).size, "draw them anew: python -m tests.paper.gallery"


def test_the_ticket_in_words_on_the_page_is_todays() -> None:
    assert f"```text\n{in_words()}\n```" in PAGE.read_text("utf-8"), "write it anew: python -m tests.paper.gallery"


def test_the_headings_on_the_page_are_those_of_the_paper() -> None:
    section = PAGE.read_text("utf-8").partition("## Headings")[2].partition("\n## ")[0]
    named = [
        name for row in re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE) for name in re.findall("`(.*?)`", row)
    ]
    rush = Exhibit(replace(HEADINGS, priority=Priority.RUSH))
    printed_words = text_of(EXHIBITS["headings"].sheet()) + text_of(rush.sheet())
    assert len(named) == 9
    assert [name for name in named if name not in printed_words] == []


def test_the_settings_on_the_page_are_the_readmes() -> None:
    readme = (PAGE.parents[1] / "README.md").read_text("utf-8")
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+|BEEP)`", PAGE.read_text("utf-8")))
    assert len(named) > 5
    assert [name for name in named if f"| `{name}` |" not in readme] == []
