"""A drawn line stands on the grid of its native neighbours."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from kps.core.document import Align, Line, Size
from kps.core.text import columns
from kps.paper import raster
from kps.paper.fonts import fonts_in
from kps.paper.raster import Picture, draw
from kps.paper.runs import is_shaped, runs

CELL = (12, 24, 30)


def drawn(line: Line, paper_columns: int = 48) -> list[str]:
    """The picture as rows of 0 and 1."""
    return dots(draw(line, paper_columns, CELL, fonts_in(())))


def dots(picture: Picture) -> list[str]:
    width = picture.width_bytes
    rows = [picture.data[at : at + width] for at in range(0, len(picture.data), width)]
    return ["".join(f"{byte:08b}" for byte in row) for row in rows]


def cut_out(rows: list[str], left: int, right: int) -> list[str]:
    return [row[left:right] for row in rows]


def has_ink(rows: list[str]) -> bool:
    return any("1" in row for row in rows)


def ink_rows(rows: list[str]) -> tuple[int, int]:
    inked = [number for number, row in enumerate(rows) if "1" in row]
    return inked[0], inked[-1]


def ink_columns(rows: list[str]) -> tuple[int, int]:
    return min(row.index("1") for row in rows if "1" in row), max(row.rfind("1") for row in rows)


def weight(rows: list[str]) -> int:
    return sum(row.count("1") for row in rows)


@pytest.mark.parametrize("size", Size)
@pytest.mark.parametrize("before", ["2 x ", "少 x", "ا ต ", "ab🍜", "น้ำ "])
def test_what_stands_before_a_letter_moves_it_by_whole_cells(size: Size, before: str) -> None:
    alone, behind = drawn(Line("少", size)), drawn(Line(before + "少", size))
    cell = 12 * size.width
    mine = [row for row in cut_out(alone, 0, 2 * cell) if "1" in row]
    # The ground line may lie lower where a neighbour is taller; the letter itself is the same. Joined letters may leave
    # columns over, which are closed.
    closed = range(columns(before)) if any(is_shaped(char) for char in before) else range(1)
    places = [(columns(before) - cells) * cell for cells in closed]
    assert mine in [[row for row in cut_out(behind, at, at + 2 * cell) if "1" in row] for at in places]


def test_what_follows_joined_letters_stands_close_to_them_but_not_in_a_frame() -> None:
    tea = "شاي بالنعناع"
    open_end = drawn(Line(f"{tea} 250ml", Size.DOUBLE))
    framed = drawn(Line(f"│{tea}│", Size.DOUBLE))
    assert ink_columns(open_end)[1] < (columns(tea) + 6) * 24 - 24
    assert ink_columns(framed)[1] >= (columns(tea) + 1) * 24


def test_a_symbol_keeps_its_shape_in_a_tall_line() -> None:
    tall = drawn(Line("🍜", Size.TALL))
    left, right = ink_columns(tall)
    top, bottom = ink_rows(tall)
    assert (bottom - top) < 2 * (right - left)


@pytest.mark.parametrize("size", Size)
def test_a_letter_of_a_larger_size_fills_its_larger_cell(size: Size) -> None:
    top, bottom = ink_rows(drawn(Line("宫", size)))
    left, right = ink_columns(drawn(Line("宫", size)))
    assert top >= 0
    assert bottom < max(30, 24 * size.height)
    assert bottom - top >= 0.7 * 24 * size.height
    assert 0.7 * 24 * size.width <= right - left < 24 * size.width


def test_a_capital_stands_where_the_printers_own_would() -> None:
    top, bottom = ink_rows(cut_out(drawn(Line("Hж")), 0, 12))
    assert 3 <= top <= 6
    assert 17 <= bottom <= 20


def test_the_tallest_letters_move_the_ground_line_of_the_whole_line() -> None:
    plain, beside = drawn(Line("Hж")), drawn(Line("Hน้ำ"))
    assert ink_rows(cut_out(beside, 0, 12))[1] > ink_rows(cut_out(plain, 0, 12))[1]


@pytest.mark.parametrize("text", ["น้ำข้น", "Ế", "पनीर", "กู้"])
@pytest.mark.parametrize("size", Size)
@pytest.mark.parametrize("inverse", [False, True])
def test_no_letter_loses_its_head_or_its_feet(text: str, size: Size, inverse: bool) -> None:
    rows = max(30, 24 * size.height)
    grid = raster.Grid(12 * size.width, 24 * size.height, rows, size.width, size.height)
    floor = 24 * size.height if inverse else rows
    for run in raster.runs(text):
        if run.text == " ":
            continue
        setting = raster._setting(run, grid, floor, fonts_in(()))
        assert setting.bottom - setting.top <= floor
        assert setting.width <= run.columns * grid.cell_width


def test_bold_is_heavier_and_as_wide() -> None:
    plain, bold = drawn(Line("少辣 ж")), drawn(Line("少辣 ж", bold=True))
    assert weight(bold) > 1.15 * weight(plain)
    assert len(bold[0]) == len(plain[0])


@pytest.mark.parametrize("size", Size)
def test_a_centred_line_stands_in_the_middle(size: Size) -> None:
    left, right = ink_columns(drawn(Line("宫宫", size, align=Align.CENTER)))
    assert abs(left - (575 - right)) <= 4 * size.width


def test_an_inverse_line_is_the_same_letters_in_white() -> None:
    text = "   少辣   "
    white, black = drawn(Line(text, inverse=True), 10), drawn(Line(text), 10)
    assert len(white[0]) == 120
    flipped = ["".join("10"[int(dot)] for dot in row) for row in black]
    assert weight(white[:24]) == weight(flipped[:24])
    assert not has_ink(white[24:])


def test_a_frame_is_closed_and_reaches_from_cell_to_cell() -> None:
    top, side, bottom = drawn(Line("┌─┐少")), drawn(Line("│ │少")), drawn(Line("└─┘少"))
    left = ink_columns(cut_out(side, 0, 12))
    assert left == (5, 6)
    assert all(row[5:7] == "11" for row in side)
    assert ink_columns(cut_out(bottom, 0, 12))[0] == 5
    line = [row for row in top if row[7:29].count("1") == 22]
    assert len(line) == 2
    assert [row[:36] for row in bottom if row[7:29].count("1") == 22] == [row[:36] for row in line]


def test_right_to_left_letters_are_joined_and_begin_at_the_right() -> None:
    joined, apart = drawn(Line("بببب")), drawn(Line("ب ب ب ب"))
    assert ink_columns(joined)[1] < ink_columns(apart)[1]
    assert len(ink_blocks(joined)) == 1
    assert len(ink_blocks(apart)) == 4
    first_is_tall = drawn(Line("اببب"))
    left, right = ink_columns(first_is_tall)
    tallest = next(row for row in first_is_tall if "1" in row)
    assert tallest.rindex("1") > (left + right) / 2


def ink_blocks(rows: list[str]) -> list[int]:
    """Widths of the pieces of ink that empty columns part, from left to right."""
    left, right = ink_columns(rows)
    inked = "".join("1" if any(row[at] == "1" for row in rows) else "0" for at in range(left, right + 1))
    return [len(block) for block in inked.split("0") if block]


def test_a_run_becomes_smaller_rather_than_be_squeezed_beyond_reading() -> None:
    text = "ഔഔഔഔഔ"
    (run,) = raster.runs(text)
    setting = raster._setting(run, raster.Grid(12, 24, 30, 1, 1), 30, fonts_in(()))
    assert setting.pixels < 24
    assert setting.width > 0.7 * setting.drawn_width


def test_a_narrow_letter_stands_in_the_middle_of_its_cell() -> None:
    left, right = ink_columns(cut_out(drawn(Line("·少", Size.HUGE)), 0, 36))
    assert abs((left + right) / 2 - 17.5) <= 4
    left, right = ink_columns(cut_out(drawn(Line("ỉ少", Size.HUGE)), 0, 36))
    assert abs((left + right) / 2 - 17.5) <= 4


def test_words_of_two_scripts_from_right_to_left_follow_each_other_leftwards() -> None:
    stroke, *_, shin = ink_blocks(drawn(Line("שםש ااا")))
    assert stroke <= 5
    assert shin >= 9


def test_marks_without_end_do_no_harm() -> None:
    assert has_ink(drawn(Line("a" + "\u0301" * 400 + "少")))


def test_every_look_of_a_line_is_drawn() -> None:
    """No combination of looks fails, and no two of them are the same picture."""
    line = Line("少")
    looks = [
        replace(line, size=size, bold=bold, inverse=inverse, align=align)
        for size in Size
        for bold in (False, True)
        for inverse in (False, True)
        for align in Align
    ]
    pictures = {draw(look, 48, CELL, fonts_in(())).data for look in looks}
    assert len(pictures) == len(looks)


def as_the_eye_meets_it(text: str) -> list[str]:
    """The pieces of a text that is one run, from left to right, without the blanks around them."""
    (run,) = runs(text)
    return [piece.text.strip() for piece in raster._pieces(run, fonts_in(())) if piece.text.strip()]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("شاي 1/2 كوب", ["كوب", "1/2", "شاي"]),
        ("תה 2-3 כפיות", ["כפיות", "2-3", "תה"]),
        ("בשעה 19:30 מוכן", ["מוכן", "19:30", "בשעה"]),
    ],
)
def test_a_number_among_letters_from_right_to_left_is_written_by_one_font_in_its_own_order(
    text: str, pieces: list[str]
) -> None:
    assert as_the_eye_meets_it(text) == pieces


def test_halves_between_words_from_right_to_left_stand_in_the_order_of_reading() -> None:
    assert "".join(as_the_eye_meets_it("بيتزا 1/2 + 3/4 ونصف")) == "ونصف3/4+1/2بيتزا"


def glyphs(rows: list[str]) -> list[list[str]]:
    """The picture cut at its white columns."""
    across = "".join("1" if any(row[at] == "1" for row in rows) else "0" for at in range(len(rows[0])))
    return [cut_out(rows, found.start(), found.end()) for found in re.finditer("1+", across)]


def is_round_at_the_left(glyph: list[str]) -> bool:
    """As `(` is: its middle is further left than its end."""
    inked = [row.index("1") for row in glyph if "1" in row]
    return inked[len(inked) // 2] < inked[0]


def test_brackets_around_a_word_from_right_to_left_hold_it() -> None:
    """Also if another font than that of the word writes them."""
    found = glyphs(drawn(Line("א (א) א", Size.DOUBLE)))
    assert len(found) == 5
    assert is_round_at_the_left(found[1])
    assert not is_round_at_the_left(found[3])


@pytest.mark.parametrize(("with_joiner", "without"), [("می\u200cخواهم", "میخواهم"), ("ශ්\u200dරී", "ශ්රී")])
def test_a_joiner_decides_about_the_form_of_its_letters(with_joiner: str, without: str) -> None:
    assert dots(draw(Line(with_joiner), 48, CELL, fonts_in(()))) != drawn(Line(without))
