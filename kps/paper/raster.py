"""A line of text as a picture that fits between lines in the printer's own font: same cells, height and weight.

The drawing has ink at 255 on 0 and becomes black and white only at the end, by a threshold: a thermal head knows no
grey, and dither makes letters ragged.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Final

from kps.core.document import Align, Line
from kps.core.text import JOINERS, columns
from kps.paper.fonts import Face, Fonts, is_ideographic, script_of
from kps.paper.ink import ink_of
from kps.paper.runs import Run, in_reading_order, is_mark, runs

if TYPE_CHECKING:
    from PIL.Image import Image

_HIDDEN: Final = re.compile(rb"\x10[\x04\x05\x14]")
"""DLE EOT, DLE ENQ, DLE DC4: executed on arrival wherever they stand, in pictures too (Epson TM-T88III, TM-U295)."""
_INK: Final = 255
_THRESHOLD: Final = 104
"""Grey, of 255, from which a dot is black. Below the middle, so that thin strokes survive being squeezed."""
_BASELINE: Final = 0.79
"""Where the baseline of printers' own fonts is, as a share of the cell's height from its top."""
_LETTER_EM: Final = 5 / 6
"""Font size as a share of the cell's height. DejaVu Sans Mono is then exactly 12 dots wide in a cell of 24."""
_SMALLEST_EM: Final = 8
_NARROWEST: Final = 0.72
"""How much a run is squeezed at most; beyond that its letters become smaller."""
_WIDEST: Final = 20
"""How many times wider than its columns a run may be before it is refused. The widest sign of the Noto fonts
(cuneiform) is 9 times as wide."""
_BLACK_AND_WHITE: Final = [0 if level < _THRESHOLD else _INK for level in range(256)]
_BOX_DRAWING: Final = {"─": "lr", "│": "ud", "┌": "rd", "┐": "ld", "└": "ru", "┘": "lu"}


@dataclass(frozen=True, slots=True)
class Picture:
    """Black dots on white, row by row from the top; the first dot of a row is the highest bit of its first byte."""

    width_bytes: int
    """Bytes of a row: dots / 8."""
    data: bytes
    """`width_bytes` * height bytes; a set bit is black (GS v 0)."""

    @property
    def height(self) -> int:
        """In dots."""
        return len(self.data) // self.width_bytes


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells of characters of one size, in dots."""

    cell_width: int
    cell_height: int
    """Width of one column of the line's size."""
    rows: int
    """Height of the whole line: the cell and the gap to the next line."""
    times_x: int
    times_y: int
    """How many times wider and higher than the normal font."""

    @property
    def baseline(self) -> int:
        """Rows above the baseline."""
        return round(self.cell_height * _BASELINE)


class TooWide(Exception):
    """In this font the text is so much wider than its columns that it would be unreadable when squeezed."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a run in one font, one script and one direction."""

    text: str
    face: Face
    right_to_left: bool


@dataclass(frozen=True, slots=True)
class _Setting:
    """How a run is drawn: its pieces from left to right, their size, and the space that they take."""

    pieces: tuple[_Piece, ...]
    pixels: int
    """Font size: dots to the em."""
    drawn_width: int
    width: int
    """Width on paper, after squeezing, in dots."""
    top: int
    bottom: int
    """First and last row of its ink, counted from the baseline; above it is negative."""


def draw(line: Line, paper_columns: int, cell: tuple[int, int, int], fonts: Fonts) -> Picture:
    """The line over the whole width of a paper; every character of it has a font.

    `cell` is the width and the height of a character of the normal font and the rows from line to line, in dots.
    An inverse line is white on black over the height of its cells, as wide as its text. Raises `FontLost`
    and `TooWide`.
    """
    from PIL import Image, ImageChops

    width, height, line_height = cell
    size = line.size
    cell_height = height * size.height
    grid = Grid(width * size.width, cell_height, max(line_height, cell_height), size.width, size.height)
    floor = cell_height if line.inverse else grid.rows
    width_bytes = -(-paper_columns * width // 8)
    canvas = Image.new("L", (width_bytes * 8, grid.rows), 0)
    free = paper_columns * width - columns(line.text) * grid.cell_width
    left = start = max(0, free // 2) if line.align is Align.CENTER else 0
    pieces = [run for run in runs(line.text) if run.columns]
    ground = max([grid.baseline, *(-_setting(run, grid, floor, fonts).top for run in pieces if run.text != " ")])
    # Joined letters take less space than their columns. What follows moves left, unless it is inside a frame.
    close = not any(char in _BOX_DRAWING for char in line.text)
    for run in pieces:
        if run.text != " ":
            canvas.paste(_stamp(run, grid, line.bold, floor, ground, fonts), (left, 0))
        left += run.columns * grid.cell_width
        if close and run.shaped:
            spare = run.columns * grid.cell_width - _setting(run, grid, floor, fonts).width
            left -= spare // grid.cell_width * grid.cell_width
    left = start + columns(line.text) * grid.cell_width
    canvas = canvas.point(_BLACK_AND_WHITE)
    if line.inverse:
        bar = (start, 0, left, cell_height)
        canvas.paste(ImageChops.invert(canvas.crop(bar)), bar)
    return Picture(width_bytes, without_hidden_commands(canvas.convert("1", dither=Image.Dither.NONE).tobytes()))


def without_hidden_commands(data: bytes) -> bytes:
    """Image data without real-time commands, which a printer executes even here: one dot is inverted (04 -> 0C ...)."""
    return _HIDDEN.sub(lambda found: bytes((0x10, found.group()[1] ^ 0x08)), data)


def forget() -> None:
    """Drop all cached drawings and measures, after a font was given up."""
    for remembered in (_stamp, _setting, _measure, ink_of):
        remembered.cache_clear()


@lru_cache(maxsize=2048)
def _stamp(run: Run, grid: Grid, bold: bool, floor: int, ground: int, fonts: Fonts) -> Image:
    """A drawn run in its box, with its baseline on row `ground`, or higher if it would reach below `floor`."""
    from PIL import Image, ImageChops

    box = Image.new("L", (run.columns * grid.cell_width, grid.rows), 0)
    if run.text in _BOX_DRAWING:
        _draw_box_part(box, _BOX_DRAWING[run.text], grid, floor)
    else:
        ink = _letters(_setting(run, grid, floor, fonts), grid.rows, floor, ground)
        box.paste(ink, (0 if run.shaped else (box.width - ink.width) // 2, 0))
    if not bold:
        return box
    # As the printer does it: every dot once more beside itself. Not for dense characters, which would run together.
    shifted = Image.new("L", box.size, 0)
    shifted.paste(box, (1 if is_ideographic(run.text[0]) else grid.times_x, 0))
    return ImageChops.lighter(box, shifted)


def _letters(setting: _Setting, rows: int, floor: int, ground: int) -> Image:
    from PIL import Image

    drawn = Image.new("L", (setting.drawn_width, rows), 0)
    baseline = max(-setting.top, min(ground, floor - setting.bottom))
    left = 0
    for piece in setting.pieces:
        left += _write(drawn, piece, setting, left, baseline)
    if setting.width == drawn.width:
        return drawn
    return drawn.resize((setting.width, rows), Image.Resampling.BOX)


@lru_cache(maxsize=4096)
def _setting(run: Run, grid: Grid, floor: int, fonts: Fonts) -> _Setting:
    """The run in the largest size that fits into its columns and above `floor`. Raises `TooWide`."""
    pieces = _pieces(run, fonts)
    whole_em = run.shaped or run.columns > 1 or is_ideographic(run.text[0])
    pixels = grid.cell_height if whole_em else round(grid.cell_height * _LETTER_EM)
    # A symbol that is squeezed like the letters of a tall line cannot be recognised.
    keeps_shape = run.shaped or unicodedata.category(run.text[0]) == "So"
    stretch = min(1.0, grid.times_x / grid.times_y) if run.shaped or not keeps_shape else 1.0
    room = run.columns * grid.cell_width
    while True:
        advance, top, bottom = _extent(pieces, pixels)
        if advance > _WIDEST * room:
            raise TooWide(run.text)
        narrow = min(stretch, room / advance)
        fits = bottom - top <= floor and (narrow >= _NARROWEST * stretch or not keeps_shape)
        if fits or pixels <= _SMALLEST_EM:
            break
        pixels -= grid.times_y
    width = max(1, min(room, round(advance * narrow)))
    return _Setting(pieces, pixels, advance, width, top, bottom)


def _pieces(run: Run, fonts: Fonts) -> tuple[_Piece, ...]:
    """The run in pieces of one font each, from left to right."""
    main = fonts.face_for(next(char for char in run.text if char != " "))
    assert main is not None, f"no font for {run.text[0]!r}"
    if not run.right_to_left:
        return _by_font(run.text, _font_of_each(run.text, main, fonts), right_to_left=False)
    pieces: list[_Piece] = []
    for part, is_number in in_reading_order(run.text):
        faces = _font_of_each(part, main, fonts)
        if is_number and (one := next((face for face in (main, *faces) if fonts.has(face, part)), None)):
            faces = [one] * len(part)
        written = _by_font(part, faces, right_to_left=not is_number)
        pieces[:0] = written if is_number else written[::-1]
    return tuple(pieces)


def _font_of_each(text: str, main: Face, fonts: Fonts) -> list[Face]:
    """The font of each character: a space and a mark stay with the text before them if its font has them."""
    faces: list[Face] = []
    for char in text:
        before = faces[-1] if faces else main
        keeps = fonts.has(before, char) and (before is main or char == " " or is_mark(char))
        if keeps or char in JOINERS:
            faces.append(before)
        else:
            faces.append(main if fonts.has(main, char) else fonts.face_for(char) or main)
    return faces


def _by_font(text: str, faces: list[Face], *, right_to_left: bool) -> tuple[_Piece, ...]:
    written = zip(text, faces, _scripts(text), strict=True)
    grouped = groupby(written, key=lambda letter: letter[1:])
    return tuple(_Piece("".join(char for char, *_ in group), face, right_to_left) for (face, _), group in grouped)


def _scripts(text: str) -> list[str]:
    """The script of each character. A non-letter has that of the letter before it, or else of the first letter."""
    letters = [script_of(char) if unicodedata.category(char)[0] == "L" else "" for char in text]
    script = next(filter(None, letters), "")
    return [script := letter or script for letter in letters]


def _extent(pieces: tuple[_Piece, ...], pixels: int) -> tuple[int, int, int]:
    """Width of the pieces side by side, and first and last row of their ink, counted from the baseline."""
    measures = [_measure(piece, pixels) for piece in pieces]
    return (
        max(1, sum(right - left for left, _, right, _ in measures)),
        min(top for _, top, _, _ in measures),
        max(bottom for _, _, _, bottom in measures),
    )


@lru_cache(maxsize=4096)
def _measure(piece: _Piece, pixels: int) -> tuple[int, int, int, int]:
    """The box of a piece that starts at (0, 0) on its baseline: around its ink, or its advance if that is wider."""
    ink = ink_of(piece.text, piece.face, pixels, right_to_left=piece.right_to_left)
    return min(ink.left, 0), ink.top, max(ink.left + ink.width, round(ink.advance)), ink.top + ink.height


def _write(image: Image, piece: _Piece, setting: _Setting, left: int, baseline: int) -> int:
    """Draw a piece and return how wide it is."""
    from PIL import Image

    start, _, end, _ = _measure(piece, setting.pixels)
    ink = ink_of(piece.text, piece.face, setting.pixels, right_to_left=piece.right_to_left)
    if ink.dots:
        drawn = Image.frombytes("L", (ink.width, ink.height), ink.dots)
        image.paste(_INK, (left - start + ink.left, baseline + ink.top), drawn)
    return end - start


def _draw_box_part(box: Image, ends: str, grid: Grid, floor: int) -> None:
    """Lines from the middle of the cell to the edges that `ends` names: left, right, up, down."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(box)
    across, down = 2 * grid.times_y, 2 * grid.times_x
    x, y = (box.width - down) // 2, (grid.cell_height - across) // 2
    for end in ends:
        match end:
            case "l":
                pen.rectangle((0, y, x + down - 1, y + across - 1), fill=_INK)
            case "r":
                pen.rectangle((x, y, box.width - 1, y + across - 1), fill=_INK)
            case "u":
                pen.rectangle((x, 0, x + down - 1, y + across - 1), fill=_INK)
            case _:
                pen.rectangle((x, y, x + down - 1, floor - 1), fill=_INK)
