"""The paper before it is printed: a sheet as plain text, and as a picture of one pixel for each dot."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFont

from kps.core.document import Align, Size
from kps.core.text import columns as columns_of_text
from kps.paper.fonts import WITH_US
from kps.paper.layout import NativeLine, Picture, RasterLine, Sheet
from kps.paper.profiles import Profile

DOTS_PER_INCH: Final = 203
"""Resolution of thermal printers: 8 dots a millimetre."""
NARROW_MM: Final = 58
PAPER_DOTS: Final = (464, 640)
"""Width of paper of 58 mm and of 80 mm, the margins included on which no head can print. All columns that a printer row
may have fit on them (`columns_of`)."""
END_MARGIN: Final = 24
"""Dots of white paper above the first row and below the last, so that a black bar is seen to end."""

_BLACK, _WHITE = 0, 255
_ARMS: Final = {
    "─": ("left", "right"),
    "│": ("up", "down"),
    "┌": ("right", "down"),
    "┐": ("left", "down"),
    "└": ("right", "up"),
    "┘": ("left", "up"),
}
_FONT: Final = "DejaVuSansMono.ttf"
_BASELINE: Final = 19 / 24
"""Where the baseline is in a cell, from its top. Descenders go below it, accents on capitals above the letters."""


def text_of(sheet: Sheet) -> str:
    """The sheet as lines of plain text, one for each row of it, without blanks at their ends.

    A line begins in the column where it begins on paper, a centred one stands in the middle; characters that are wider
    on paper are shown once, side by side. `#` is the black of an inverse bar. Feeds are empty lines. The last line
    shows the cut, if there is one; the first `[beep]`, if the printer is heard.
    """
    lines = ["[beep]"] if sheet.beep and sheet.profile.beep else []
    lines += [""] * sheet.feed_before
    lines += [text_of_row(row, sheet.columns) for row in sheet.rows]
    lines += [""] * sheet.feed_lines
    if sheet.cut:
        lines.append(_cut_line(sheet.columns))
    return "\n".join(lines)


def text_of_row(row: NativeLine | RasterLine, columns: int) -> str:
    """One row as a line of plain text, at most `columns` wide."""
    line = row.line
    if line.inverse:
        return _bar(line.text.strip(" "), columns)
    if line.align is Align.CENTER:
        text = line.text.strip(" ")
        return " " * _gap(text, columns)[0] + text
    text = line.text.lstrip(" ")
    return (" " * ((len(line.text) - len(text)) * line.size.width) + text).rstrip(" ")


def _bar(words: str, columns: int) -> str:
    """An inverse line: its words with `#` left and right of them."""
    left, right = _gap(words, columns)
    return "#" * (left - 1) + " " * (left > 0) + words + " " * (right > 0) + "#" * (right - 1)


def _gap(text: str, columns: int) -> tuple[int, int]:
    """Columns left and right of a centred text."""
    gap = max(0, columns - columns_of_text(text))
    return gap // 2, gap - gap // 2


def _cut_line(columns: int) -> str:
    dashes = "- " * columns
    half = (columns - len(" cut ")) // 2
    return f"{dashes[:half].rstrip()} cut {dashes[:half].rstrip()}".center(columns).rstrip()


def png_of(sheet: Sheet) -> bytes:
    """The sheet as a black and white PNG at 203 dpi, as wide as the paper is, END_MARGIN higher at both ends.

    Rows advance as the device advances, pictures are shown dot by dot. Text of the device's own font is drawn with a
    font of ours in the device's cells: the places are true, the shapes of the letters are not.
    """
    printed = sheet.columns * sheet.profile.cell_width
    width = paper_dots(sheet.width_mm)
    paper = Image.new("1", (width, height_of(sheet) + 2 * END_MARGIN), _WHITE)
    left = (width - printed) // 2
    top = END_MARGIN + sheet.feed_before * sheet.profile.line_height
    for row in sheet.rows:
        paper.paste(_row(row, sheet.profile, printed), (left, top))
        top += row_height(row, sheet.profile)
    file = io.BytesIO()
    paper.save(file, "PNG", dpi=(DOTS_PER_INCH, DOTS_PER_INCH), optimize=True)
    return file.getvalue()


def paper_dots(width_mm: int) -> int:
    """Width of a paper in dots."""
    return PAPER_DOTS[0] if width_mm <= NARROW_MM else PAPER_DOTS[1]


def height_of(sheet: Sheet) -> int:
    """Dots that the paper moves from the first row to the cut, without the feed to the cutter."""
    feeds = (sheet.feed_before + sheet.feed_lines) * sheet.profile.line_height
    return feeds + sum(row_height(row, sheet.profile) for row in sheet.rows)


def row_height(row: NativeLine | RasterLine, profile: Profile) -> int:
    """Dots that the paper moves for one row: a line takes the line spacing, or the height of taller characters."""
    if isinstance(row, RasterLine):
        return row.picture.height
    return max(profile.line_height, profile.cell_height * row.line.size.height)


def _row(row: NativeLine | RasterLine, profile: Profile, printed: int) -> Image.Image:
    """One row as a picture, as wide as what is printed between the margins."""
    if isinstance(row, RasterLine):
        return _picture(row.picture)
    line = row.line
    text = _native(line.text, profile, line.size, bold=line.bold, inverse=line.inverse)
    whole = Image.new("1", (printed, text.height), _WHITE)
    whole.paste(text, ((printed - text.width) // 2 if line.align is Align.CENTER else 0, 0))
    return whole


def _picture(picture: Picture) -> Image.Image:
    size = (picture.width_bytes * 8, picture.height)
    return Image.frombytes("1", size, picture.data, "raw", "1;I")


def _native(text: str, profile: Profile, size: Size, *, bold: bool, inverse: bool) -> Image.Image:
    """Text in the device's own font: one cell for each character, enlarged dot by dot."""
    width, height = profile.cell_width, profile.cell_height
    line = Image.new("1", (max(1, len(text)) * width, height), _WHITE)
    for place, char in enumerate(text):
        line.paste(_cell(char, width, height, bold), (place * width, 0))
    if inverse:
        line = ImageChops.invert(line)
    return line.resize((line.width * size.width, height * size.height), Image.Resampling.NEAREST)


@lru_cache(maxsize=4096)
def _cell(char: str, width: int, height: int, bold: bool) -> Image.Image:
    """One character in its cell; a bold one is printed twice, the second time one dot to the right."""
    cell = Image.new("1", (width, height), _WHITE)
    pen = ImageDraw.Draw(cell)
    for shift in (0, 1) if bold else (0,):
        if char in _ARMS:
            _draw_ornament(pen, char, width, height, shift)
        else:
            _draw_letter(pen, char, width, height, shift)
    return cell


def _draw_letter(pen: ImageDraw.ImageDraw, char: str, width: int, height: int, shift: int) -> None:
    font = _font(width, height)
    left = round((width - font.getlength(char)) / 2) + shift
    pen.fontmode = "1"
    pen.text((left, round(height * _BASELINE)), char, fill=_BLACK, font=font, anchor="ls")


def _draw_ornament(pen: ImageDraw.ImageDraw, char: str, width: int, height: int, shift: int) -> None:
    """Draw lines from the middle of the cell to its edges, so that frames close in every font."""
    across, down = width // 2 - 1 + shift, height // 2 - 1
    for arm in _ARMS[char]:
        box = {
            "left": (0, down, across + 1, down + 1),
            "right": (across, down, width, down + 1),
            "up": (across, 0, across + 1, down + 1),
            "down": (across, down, across + 1, height),
        }[arm]
        pen.rectangle(box, fill=_BLACK)


@lru_cache(maxsize=64)
def _font(width: int, height: int) -> ImageFont.FreeTypeFont:
    """A font whose letters fit such a cell: DejaVu Sans Mono is 0.6 em wide, 1.17 em high."""
    size = min(width / 0.6, height / 1.17)
    return ImageFont.truetype(WITH_US / _FONT, size, layout_engine=ImageFont.Layout.BASIC)
