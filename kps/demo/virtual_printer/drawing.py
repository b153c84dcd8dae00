"""A paper as a picture, one pixel for each dot: bitmaps exactly, text as a plain font in the printer's cells."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw, ImageFont

from kps.demo.virtual_printer.records import Align, Line, Paper, Raster, Span
from kps.paper.fonts import WITH_US

CELL_ROWS = (24, 17)
"""Height of a character of font A and font B."""
_BLACK, _WHITE = 0, 255
_UNDERLINE_ROWS = 2


def draw(paper: Paper, dots: int, columns: int) -> bytes:
    """The PNG of a paper, `dots` wide (`columns` characters of font A) and `paper.rows` high, black and white.

    The font is the one that comes with KPS; a character that it lacks is a box. Bitmaps that the record has dropped
    stay white.
    """
    image = Image.new("L", (dots, max(1, paper.rows)), _WHITE)
    for raster in filter(lambda raster: raster.data, paper.raster):
        _put(image, _bitmap(raster), raster.align, raster.row)
    for line in paper.lines:
        if line.text:
            _put(image, _text(line, dots // columns), line.align, line.row)
    file = io.BytesIO()
    image.convert("1", dither=Image.Dither.NONE).save(file, "PNG")
    return file.getvalue()


def _put(image: Image.Image, part: Image.Image, align: Align, row: int) -> None:
    """Black stays black where two things stand on one place, as on paper."""
    room = image.width - part.width
    left = {Align.LEFT: 0, Align.CENTER: room // 2, Align.RIGHT: room}[align]
    box = (max(0, left), row, max(0, left) + part.width, row + part.height)
    image.paste(ImageChops.darker(image.crop(box), part), box)


def _bitmap(raster: Raster) -> Image.Image:
    size = (raster.width_bytes * 8, raster.height)
    dark = Image.frombytes("1", size, raster.data)
    return ImageChops.invert(dark.convert("L")).resize((size[0] * raster.scale, raster.rows), Image.Resampling.NEAREST)


def _text(line: Line, cell: int) -> Image.Image:
    """The characters of a line side by side on one ground line."""
    characters = [_character(span, character, cell) for span, character in _characters(line)]
    height = max(character.height for character in characters)
    image = Image.new("L", (sum(character.width for character in characters), height), _WHITE)
    left = 0
    for character in characters:
        image.paste(character, (left, height - character.height))
        left += character.width
    return image


def _characters(line: Line) -> Iterator[tuple[Span, str]]:
    for span in line.spans:
        for character in span.text:
            yield span, character


def _character(span: Span, character: str, cell: int) -> Image.Image:
    """One character in its cell, enlarged dot by dot as the printer does it."""
    width = cell if span.font == 0 else cell * 3 // 4
    if unicodedata.east_asian_width(character) in "WF":
        width *= 2
    return _enlarged(
        character, width, CELL_ROWS[span.font], span.bold, span.underline, span.inverse, span.width, span.height
    )


@lru_cache(maxsize=4096)
def _enlarged(
    character: str, width: int, rows: int, bold: bool, underline: bool, inverse: bool, times_x: int, times_y: int
) -> Image.Image:
    cell = _glyph(character, width, rows)
    if bold:
        shifted = Image.new("L", cell.size, _WHITE)
        shifted.paste(cell, (1, 0))
        cell = ImageChops.darker(cell, shifted)
    if underline:
        cell = cell.copy()
        cell.paste(_BLACK, (0, rows - _UNDERLINE_ROWS, width, rows))
    if inverse:
        cell = ImageChops.invert(cell)
    return cell.resize((width * times_x, rows * times_y), Image.Resampling.NEAREST)


@lru_cache(maxsize=4096)
def _glyph(character: str, width: int, rows: int) -> Image.Image:
    """A character in black on white, squeezed if it is too wide for its cell."""
    font = ImageFont.truetype(WITH_US / "DejaVuSansMono.ttf", rows * 5 / 6, layout_engine=ImageFont.Layout.BASIC)
    natural = max(1, round(font.getlength(character)))
    drawn = Image.new("L", (natural, rows), _WHITE)
    pen = ImageDraw.Draw(drawn)
    pen.fontmode = "1"
    pen.text((0, 0), character, fill=_BLACK, font=font)
    if natural > width:
        drawn = drawn.resize((width, rows), Image.Resampling.BOX).point(lambda level: _BLACK if level < 170 else _WHITE)
    cell = Image.new("L", (width, rows), _WHITE)
    cell.paste(drawn, ((width - drawn.width) // 2, 0))
    return cell
