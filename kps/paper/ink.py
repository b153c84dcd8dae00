"""Text in one font -> grey dots. HarfBuzz joins the letters, sets the marks and draws, the same on every host."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from kps.paper.fonts import Face, drawing_with, open_face

if TYPE_CHECKING:
    import uharfbuzz

_PER_PIXEL: Final = 64
"""Places of an outline within a dot."""
_REGULAR: Final = {"wght": 400}
"""What a font that varies in weight is drawn with; the default of some is hair thin. Others do not heed it."""


@dataclass(frozen=True, slots=True)
class Ink:
    """What a text leaves on paper, seen from where it starts on its ground line; rightwards and downwards is more."""

    left: int
    top: int
    width: int
    height: int
    advance: float
    """Where the next text would start."""
    dots: bytes
    """Row by row from the top, a byte for each: 255 is black. Empty where nothing is drawn."""


@lru_cache(maxsize=64)
def ink_of(text: str, face: Face, pixels: int, *, right_to_left: bool) -> Ink:
    """The text, all of one script, at `pixels` to the em. Raises `FontLost`."""
    with drawing_with(face):
        import uharfbuzz

        font = _font(face, pixels)
        buffer = uharfbuzz.Buffer()
        buffer.add_str(text)
        buffer.direction = "rtl" if right_to_left else "ltr"
        # Else it is that of the process, and so the picture would depend on where it runs.
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
    # Its rows are longer than the picture, and the first one is the lowest.
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
