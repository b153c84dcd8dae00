"""Text in one font -> grey dots. HarfBuzz shapes and draws the text, so it looks the same on every host."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from kps.paper.fonts import Face, drawing_with, open_face

if TYPE_CHECKING:
    import uharfbuzz

_PER_PIXEL: Final = 64
"""Outline units in one dot."""
_REGULAR: Final = {"wght": 400}
"""Weight for variable fonts, because the default of some is too thin. Other fonts ignore it."""


@dataclass(frozen=True, slots=True)
class Ink:
    """The dots of a text. Coordinates start where it starts on its baseline, and grow rightwards and downwards."""

    left: int
    top: int
    width: int
    height: int
    advance: float
    """Where text that follows would start."""
    dots: bytes
    """One byte for each dot, row by row from the top; 255 is black. Empty if nothing is drawn."""


@lru_cache(maxsize=64)
def ink_of(text: str, face: Face, pixels: int, *, right_to_left: bool) -> Ink:
    """Draw a text, all of one script, with `pixels` dots to the em. Raises `FontLost`."""
    with drawing_with(face):
        import uharfbuzz

        font = _font(face, pixels)
        buffer = uharfbuzz.Buffer()
        buffer.add_str(text)
        buffer.direction = "rtl" if right_to_left else "ltr"
        # The default is that of the process's locale, and the picture would depend on it.
        buffer.language = "und"
        buffer.guess_segment_properties()
        uharfbuzz.shape(font, buffer)
        pen = uharfbuzz.RasterDraw()
        pen.scale_factor = (_PER_PIXEL, _PER_PIXEL)
        x = 0
        for glyph, place in zip(buffer.glyph_infos, buffer.glyph_positions, strict=True):
            pen.transform = (1, 0, 0, 1, x + place.x_offset, place.y_offset)
            pen.draw_glyph(font, glyph.codepoint)
            x += place.x_advance
        image = pen.render()
        if image is None:
            raise OSError("cannot be drawn")
    size = image.extents
    # Rows of the bitmap are padded, and its first row is the lowest.
    rows = range((size.height - 1) * size.stride, -1, -size.stride) if size.height else ()
    dots = b"".join(image.buffer[at : at + size.width] for at in rows)
    return Ink(size.x_origin, -(size.y_origin + size.height), size.width, size.height, x / _PER_PIXEL, dots)


@lru_cache(maxsize=128)
def _font(face: Face, pixels: int) -> uharfbuzz.Font:
    import uharfbuzz

    font = uharfbuzz.Font(open_face(face).face)
    font.scale = (pixels * _PER_PIXEL, pixels * _PER_PIXEL)
    font.set_variations(_REGULAR)
    return font
