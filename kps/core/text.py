"""Text from orders: made harmless, measured in columns, and broken into lines.

A *column* is the width of one Latin letter; an East Asian wide character takes two, a combining mark none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

MIN_WIDTH = 2
"""Columns. The narrowest line that can hold every character."""

_LINE_ENDS = frozenset("\n\r\v\f\x85\u2028\u2029")
_VISIBLE_FORMAT = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
# Letters and marks without any ink; they are neither spaces nor format characters to Unicode.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0")
_NEVER_FIRST = frozenset("ะาำๅๆ、。，．：；？！）」』】〕〉》ーぁぃぅぇぉっゃゅょァィゥェォッャュョ々")
_NEVER_LAST = frozenset("เแโใไ（「『【〔〈《")
_FARTHEST_CUT = 8
"""Characters by which a piece of a word may be shorter than the line, so that letters and marks stay together."""
_INVISIBLE_MARKS = re.compile("[\u034f\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def clean(text: str, *, newlines: bool = False) -> str:
    """Text without anything that a device could obey or that a reader cannot see; NFC, no space at either end.

    Every kind of space becomes a plain one. Control characters (C0, C1, DEL), bidirectional overrides, zero-width
    and other invisible characters vanish; a lone surrogate becomes U+FFFD. Line ends of every kind become a space,
    or with `newlines` a line feed, which is then the only control character left.
    """
    if text.isascii() and text.isprintable():
        return text.strip(" ")
    kept = text.translate(_KEEP_LINES if newlines else _JOIN_LINES)
    return unicodedata.normalize("NFC", kept).strip(" \n")


def columns(text: str) -> int:
    """The width of `text` in columns."""
    if text.isascii():
        return len(text)
    return sum(map(_character_columns, text))


def wrap(text: str, width: int, *, first: str = "", indent: int = 0) -> list[str]:
    """Lines of at most `width` columns (>= MIN_WIDTH), broken between words; a word that no line can hold is split.

    The first line begins with `first`, each further one with `indent` spaces, at most half of the width. A `first`
    that leaves no room is treated as words of the text. A line feed in the text ends a line; other white space is
    collapsed. Nothing but white space is lost. No words, no lines.
    """
    if width < MIN_WIDTH:
        raise ValueError(f"a line needs {MIN_WIDTH} columns, not {width}")
    if columns(first) > width - MIN_WIDTH and text.strip():
        text, first = f"{first} {text}", ""
    rest = " " * min(indent, width // 2, width - MIN_WIDTH)
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines.extend(_wrap_words(paragraph.split(), width, rest if lines else first, rest))
    return lines


def substitute(text: str, encodable: Callable[[str], bool]) -> str:
    """`text` with each character that is not `encodable` written as `[U+XXXX]`, so that nothing is dropped silently."""
    if text.isascii():
        return text
    return "".join(char if char.isascii() or encodable(char) else f"[U+{ord(char):04X}]" for char in text)


class _Translation(dict[int, str]):
    """What becomes of each character; filled as characters are met, since most of Unicode never comes."""

    def __init__(self, line_end: str) -> None:
        super().__init__()
        self._line_end = line_end

    def __missing__(self, code: int) -> str:
        self[code] = harmless = self._harmless(chr(code))
        return harmless

    def _harmless(self, char: str) -> str:
        if char in _LINE_ENDS:
            return self._line_end
        if char in _VISIBLE_FORMAT:
            return char
        category = unicodedata.category(char)
        if category == "Zs" or char == "\t" or char in _BLANK_LETTERS:
            return " "
        if category == "Cs":
            return "\ufffd"
        if category in ("Cc", "Cf") or _INVISIBLE_MARKS.match(char):
            return ""
        return char


_JOIN_LINES = _Translation(" ")
_KEEP_LINES = _Translation("\n")


def _character_columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _wrap_words(words: list[str], width: int, first: str, rest: str) -> Iterator[str]:
    line, used, bare = first, columns(first), True
    fresh_room = width - len(rest)
    for word in words:
        need, gap = columns(word), 0 if bare else 1
        if used + gap + need <= width:
            line, used, bare = line + " " * gap + word, used + gap + need, False
            continue
        if not bare and need <= fresh_room:
            yield line
            line, used = rest + word, len(rest) + need
            continue
        head, *tail = _split(word, width - used - gap, fresh_room)
        if head:
            line, bare = line + " " * gap + head, False
        for piece in tail:
            if not bare:
                yield line
            line, bare = rest + piece, False
        used = columns(line)
    if not bare:
        yield line


def _split(word: str, room: int, fresh_room: int) -> list[str]:
    """Pieces of a long word: the first of at most `room` columns, perhaps empty, the others of `fresh_room`."""
    pieces, start, used = [], 0, 0
    for position, char in enumerate(word):
        need = _character_columns(char)
        if used + need > room:
            cut = _good_cut(word, start, position, fresh_room - need)
            pieces.append(word[start:cut])
            start, used, room = cut, columns(word[cut:position]), fresh_room
        used += need
    pieces.append(word[start:])
    return pieces


def _good_cut(word: str, start: int, latest: int, room: int) -> int:
    """Where in `start`..`latest` the word is best cut: as late as possible, but not inside what is read as one.

    What is carried over may take `room` columns; if there is no such place, the cut is at `latest`.
    """
    cut, earliest = latest, max(start, latest - _FARTHEST_CUT)
    while cut > earliest and columns(word[cut:latest]) <= room:
        if not _belongs_together(word[cut - 1], word[cut]):
            return cut
        cut -= 1
    return latest


def _belongs_together(left: str, right: str) -> bool:
    """Whether no line may end between the two: a letter and its mark, a Thai vowel and its consonant, a comma."""
    return right in _NEVER_FIRST or left in _NEVER_LAST or unicodedata.category(right).startswith("M")
