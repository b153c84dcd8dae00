"""Text from orders: made harmless, measured in columns, and broken into lines.

A *column* is the width of one Latin letter; an East Asian wide character takes two, a combining mark or a joiner none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

MIN_WIDTH = 2
"""The narrowest line that can hold every character, in columns."""
MAX_MARKS = 8
"""Most combining marks on one letter. No language needs more, and marks take no column, so no width limits them."""
JOINERS = frozenset("\u200c\u200d")
"""Zero width non-joiner and joiner. They are invisible but decide about the form of the letters beside them."""

_LINE_ENDS = frozenset("\n\r\v\f\x85\u2028\u2029")
_VISIBLE_FORMAT = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
# Invisible letters and marks that Unicode counts neither as spaces nor as format characters.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0")
_NEVER_FIRST = frozenset("ะาำๅๆ、。，．：；？！）」』】〕〉》ーぁぃぅぇぉっゃゅょァィゥェォッャュョ々")
_NEVER_LAST = frozenset("เแโใไ（「『【〔〈《")
_FARTHEST_CUT = 8
"""Most characters that a split word may be cut earlier than necessary, so that letters and marks stay together."""
_INVISIBLE_MARKS = re.compile("[\u034f\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_ANY_JOINER = re.compile("[\u200c\u200d]")
_JOINING = (
    "[\u0620-\u065f\u066e-\u06d3\u06d5-\u06dc\u06df-\u06e8\u06ea-\u06ef\u06fa-\u06ff"
    "\u0710-\u077f\u0840-\u0963\u0971-\u0dff]"
)
# Letters and marks of Arabic, Syriac, Mandaic and of the scripts of India.
_LOOSE_JOINER = re.compile(f"(?<!{_JOINING}){_ANY_JOINER.pattern}|{_ANY_JOINER.pattern}(?!{_JOINING})")
_MAX_REMEMBERED = 20_000
"""Characters that are remembered. A kitchen writes fewer; the limit keeps orders from filling the memory."""


def clean(text: str, *, newlines: bool = False) -> str:
    """Text without anything that a device could obey or that a reader cannot see; NFC, no space at either end.

    Every kind of space becomes a plain one. Control characters (C0, C1, DEL), bidirectional overrides, zero-width
    and other invisible characters vanish, but for a joiner between two letters whose form hangs on it; a lone
    surrogate becomes U+FFFD. Line ends of every kind become a space, or with `newlines` a line feed, which is then
    the only control character left. Marks beyond MAX_MARKS on one letter become `[U+XXXX]`.
    """
    if text.isascii() and text.isprintable():
        return text.strip(" ")
    kept = text.translate(_KEEP_LINES if newlines else _JOIN_LINES)
    if kept.isascii():
        return kept.strip(" \n")
    # Before NFC, which needs quadratic time for the marks of a letter, and after it, because it splits some marks.
    composed = unicodedata.normalize("NFC", _without_towers(kept))
    return without_loose_joiners(_without_towers(composed)).strip(" \n")


def columns(text: str) -> int:
    """The width of `text` in columns."""
    if text.isascii():
        return len(text)
    return sum(map(_WIDTHS.__getitem__, text))


def wrap(text: str, width: int, *, first: str = "", indent: int = 0) -> list[str]:
    """Lines of at most `width` columns (>= MIN_WIDTH), broken between words; a word that no line can hold is split.

    The first line begins with `first`, each further one with `indent` spaces, at most half of the width. A `first`
    that leaves no room is treated as words of the text. A line feed in the text ends a line; other white space is
    collapsed. Nothing but white space is lost. No words, no lines.
    """
    return list(broken(text, width, first=first, indent=indent))


def broken(text: str, width: int, *, first: str = "", indent: int = 0) -> Iterator[str]:
    """The lines of `wrap` one by one: a caller may stop early."""
    if width < MIN_WIDTH:
        raise ValueError(f"a line needs {MIN_WIDTH} columns, not {width}")
    if columns(first) > width - MIN_WIDTH and text.strip():
        text, first = f"{first} {text}", ""
    rest = " " * min(indent, width // 2, width - MIN_WIDTH)
    lead = first
    for paragraph in text.split("\n"):
        for line in _wrap_words(paragraph.split(), width, lead, rest):
            yield line
            lead = rest


def substitute(text: str, encodable: Callable[[str], bool]) -> str:
    """`text` with each character that is not `encodable` written as `[U+XXXX]`, so that nothing is dropped silently."""
    if text.isascii():
        return text
    return "".join(char if char.isascii() or encodable(char) else f"[U+{ord(char):04X}]" for char in text)


def without_loose_joiners(text: str) -> str:
    """NFC `text`, still in NFC, with joiners only between two letters whose form may hang on them."""
    if not _LOOSE_JOINER.search(text):
        return text
    kept = unicodedata.normalize("NFC", _LOOSE_JOINER.sub("", text))
    # Marks may have changed places in NFC, so that another joiner stands alone now.
    return unicodedata.normalize("NFC", _ANY_JOINER.sub("", kept)) if _LOOSE_JOINER.search(kept) else kept


def _without_towers(text: str) -> str:
    """The text with at most MAX_MARKS marks on a letter. Further ones are spelled out, joiners among them dropped."""
    if _TOWER not in text.translate(_HEIGHTS):
        return text
    kept, marks = [], 0
    for char in text:
        marks = 0 if _WIDTHS[char] else marks + 1
        if marks <= MAX_MARKS:
            kept.append(char)
        elif char not in JOINERS:
            kept.append(f"[U+{ord(char):04X}]")
    return "".join(kept)


class _Translation(dict[int, str]):
    """Translation table of `clean`. Entries are made when a character is met first."""

    def __init__(self, line_end: str) -> None:
        super().__init__()
        self._line_end = line_end

    def __missing__(self, code: int) -> str:
        if len(self) >= _MAX_REMEMBERED:
            self.clear()
        self[code] = harmless = self._harmless(chr(code))
        return harmless

    def _harmless(self, char: str) -> str:
        if char in _LINE_ENDS:
            return self._line_end
        if char in _VISIBLE_FORMAT or char in JOINERS:
            return char
        category = unicodedata.category(char)
        if category == "Zs" or char == "\t" or char in _BLANK_LETTERS:
            return " "
        if category == "Cs":
            return "\ufffd"
        if category in ("Cc", "Cf") or _INVISIBLE_MARKS.match(char):
            return ""
        return char


class _Widths(dict[str, int]):
    """Columns of each character, worked out when it is met first."""

    def __missing__(self, char: str) -> int:
        if len(self) >= _MAX_REMEMBERED:
            self.clear()
        self[char] = width = _character_columns(char)
        return width


class _Heights(dict[int, str]):
    """`|` for a combining character, a blank for any other."""

    def __missing__(self, code: int) -> str:
        if len(self) >= _MAX_REMEMBERED:
            self.clear()
        self[code] = height = " " if _character_columns(chr(code)) else "|"
        return height


_JOIN_LINES = _Translation(" ")
_KEEP_LINES = _Translation("\n")
_WIDTHS = _Widths()
_HEIGHTS = _Heights()
_TOWER = "|" * (MAX_MARKS + 1)


def _character_columns(char: str) -> int:
    if char in JOINERS or unicodedata.category(char) in ("Mn", "Me"):
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
        need = _WIDTHS[char]
        if used + need > room:
            cut = _good_cut(word, start, position, fresh_room - need)
            pieces.append(word[start:cut])
            start, used, room = cut, columns(word[cut:position]), fresh_room
        used += need
    pieces.append(word[start:])
    return pieces


def _good_cut(word: str, start: int, latest: int, room: int) -> int:
    """Where in `start`..`latest` the word is cut: as late as possible, but not between what belongs together.

    The rest up to `latest` must fit into `room` columns. If there is no such place, the cut is at `latest`.
    """
    cut, earliest = latest, max(start, latest - _FARTHEST_CUT)
    while cut > earliest and columns(word[cut:latest]) <= room:
        if not _belongs_together(word[cut - 1], word[cut]):
            return cut
        cut -= 1
    return latest


def _belongs_together(left: str, right: str) -> bool:
    """Whether no line may end between the two, such as a letter and its mark, or a word and its comma."""
    if right in _NEVER_FIRST or left in _NEVER_LAST or left in JOINERS or right in JOINERS:
        return True
    return unicodedata.category(right).startswith("M")
