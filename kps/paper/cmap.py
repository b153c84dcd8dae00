"""Which characters an OpenType file has glyphs for, read from its `cmap` tables alone.

Formats 4 and 12 hold the whole of Unicode in nearly every font (OpenType specification 1.9, "cmap"). A file is read
as untrusted bytes: whatever is wrong with it is a `BadFont`.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_COLLECTION: Final = b"ttcf"
_UNICODE: Final = {(3, 10): 3, (0, 6): 3, (0, 4): 3, (3, 1): 2, (0, 3): 2, (0, 2): 1, (0, 1): 1, (0, 0): 1}
"""(platform, encoding) of a Unicode table -> how much it is worth; full Unicode before the basic plane."""
_MAX_TABLE: Final = 4 * 1024 * 1024
_MAX_RANGES: Final = 200_000
_LAST: Final = 0x10FFFF


class BadFont(Exception):
    """The file is no font that can be read."""


class Coverage:
    """A set of code points, as ranges."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: list[tuple[int, int]]) -> None:
        self._firsts, self._lasts = array("I"), array("I")
        for first, last in sorted(ranges):
            if self._lasts and first <= self._lasts[-1] + 1:
                self._lasts[-1] = max(last, self._lasts[-1])
            else:
                self._firsts.append(first)
                self._lasts.append(last)

    def __contains__(self, code: int) -> bool:
        at = bisect_right(self._firsts, code) - 1
        return at >= 0 and code <= self._lasts[at]


def coverage_of(path: Path) -> Coverage:
    """What the file, or the first font of a collection, has glyphs for. Raises `BadFont`."""
    try:
        with path.open("rb") as file:
            return read_coverage(file)
    except OSError as error:
        raise BadFont(str(error)) from error


def read_coverage(file: BinaryIO) -> Coverage:
    """The same of an open file. Raises `BadFont`; an `OSError` of the file passes through."""
    try:
        table = _cmap(file)
        return Coverage(list(_ranges(table, _best_subtable(table))))
    except (struct.error, OverflowError) as error:
        raise BadFont(f"no readable cmap: {error}") from error


def _cmap(file: BinaryIO) -> bytes:
    start = 0
    if file.read(4) == _COLLECTION:
        (start,) = struct.unpack(">I", _at(file, 12, 4))
    (count,) = struct.unpack(">H", _at(file, start + 4, 2))
    directory = _at(file, start + 12, 16 * count)
    for tag, _, offset, length in struct.iter_unpack(">4sIII", directory):
        if tag == b"cmap":
            return _at(file, offset, min(length, _MAX_TABLE))
    raise BadFont("no cmap")


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)


def _best_subtable(table: bytes) -> int:
    (count,) = struct.unpack_from(">H", table, 2)
    found: list[tuple[int, int]] = []
    for record in range(count):
        platform, encoding, offset = struct.unpack_from(">HHI", table, 4 + 8 * record)
        (form,) = struct.unpack_from(">H", table, offset)
        if form in (4, 12):
            found.append((_UNICODE.get((platform, encoding), 0), offset))
    worth, offset = max(found, default=(0, 0))
    if worth == 0:
        raise BadFont("no table of Unicode")
    return offset


def _ranges(table: bytes, offset: int) -> Iterator[tuple[int, int]]:
    (form,) = struct.unpack_from(">H", table, offset)
    return _ranges_of_12(table, offset) if form == 12 else _ranges_of_4(table, offset)


def _ranges_of_12(table: bytes, offset: int) -> Iterator[tuple[int, int]]:
    (count,) = struct.unpack_from(">I", table, offset + 12)
    for group in range(min(count, _MAX_RANGES)):
        first, last, glyph = struct.unpack_from(">III", table, offset + 16 + 12 * group)
        first += glyph == 0  # Glyph 0 is the box for what a font lacks.
        if first <= last <= _LAST:
            yield first, last


def _ranges_of_4(table: bytes, offset: int) -> Iterator[tuple[int, int]]:
    (twice,) = struct.unpack_from(">H", table, offset + 6)
    ends, step = offset + 14, twice + 2
    for segment in range(0, twice, 2):
        (last,) = struct.unpack_from(">H", table, ends + segment)
        (first,) = struct.unpack_from(">H", table, ends + twice + 2 + segment)
        (delta,) = struct.unpack_from(">H", table, ends + step + twice + segment)
        place = ends + step + 2 * twice + segment
        (distance,) = struct.unpack_from(">H", table, place)
        last = min(last, 0xFFFE)
        if first > last:
            continue
        if distance == 0:
            yield from _without(first, last, (0x10000 - delta) & 0xFFFF)
            continue
        glyphs = struct.unpack_from(f">{last - first + 1}H", table, place + distance)
        for code, glyph in enumerate(glyphs, first):
            if glyph and (glyph + delta) & 0xFFFF:
                yield code, code


def _without(first: int, last: int, missing: int) -> Iterator[tuple[int, int]]:
    """The range without the one code that leads to glyph 0."""
    if not first <= missing <= last:
        yield first, last
        return
    if first < missing:
        yield first, missing - 1
    if missing < last:
        yield missing + 1, last
