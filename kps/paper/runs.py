"""Text -> the runs of it that are drawn one by one, each in its own columns of the paper.

In most writing systems each letter has its column. Scripts whose letters join, change places or run from
right to left are kept together: word beside word, with the spaces, marks and digits between them.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from kps.core.text import JOINERS, columns

_SHAPED: Final = (
    (0x0590, 0x109F),  # Hebrew, Arabic, Syriac, Thaana, the scripts of India, Thai, Lao, Tibetan, Myanmar
    (0x1700, 0x18AF),  # the Philippines, Khmer, Mongolian
    (0x1900, 0x1CFF),  # Limbu, Tai, Buginese, Balinese, Sundanese, Batak, Lepcha
    (0xA800, 0xA8FF),  # Syloti Nagri, Phags-pa, Saurashtra, Devanagari Extended
    (0xA980, 0xA9DF),  # Javanese
    (0xA9E0, 0xABFF),  # Myanmar, Cham, Tai Viet, Meetei Mayek
    (0xFB1D, 0xFDFF),  # presentation forms of Hebrew and Arabic
    (0xFE70, 0xFEFF),
    (0x10800, 0x11FFF),
    (0x1E800, 0x1EFFF),
)
_STARTS: Final = [first for first, _ in _SHAPED]
_RIGHT_TO_LEFT: Final = frozenset(("R", "AL", "AN"))
_JOINS_LEFT_TO_RIGHT: Final = frozenset(" -.,'’/&")
_MIRRORED: Final = dict(zip("()[]{}<>«»", ")(][}{><»«", strict=True))
_CLOSING: Final = frozenset(")]}»")
_LEFT_TO_RIGHT: Final = frozenset(("EN", "AN", "L"))
_MAX_GAP: Final = 3
"""Most neutral characters between two words that still keep them in one run; more are the blanks of a table."""


@dataclass(frozen=True, slots=True)
class Run:
    """Text that is drawn in one piece, in `columns` columns."""

    text: str
    columns: int
    shaped: bool = False
    """Whether the font's rules for joining and reordering letters apply."""
    right_to_left: bool = False


def runs(text: str) -> Iterator[Run]:
    """The pieces of `text` in the order in which they stand on the paper, whose direction is left to right."""
    at = 0
    while at < len(text):
        end = _end_of_shaped(text, at) if is_shaped(text[at]) else _end_of_cluster(text, at)
        piece = text[at:end]
        yield Run(piece, columns(piece), is_shaped(piece[0]), is_right_to_left(piece[0]))
        at = end


def is_shaped(char: str) -> bool:
    """Whether the character belongs to a script that cannot be set letter by letter."""
    code = ord(char)
    at = bisect_right(_STARTS, code) - 1
    return at >= 0 and code <= _SHAPED[at][1]


def is_right_to_left(char: str) -> bool:
    """Whether the character is a letter or digit of a script that runs from right to left."""
    return unicodedata.bidirectional(char) in _RIGHT_TO_LEFT


def is_mark(char: str) -> bool:
    """Whether the character combines with the one before it."""
    return unicodedata.category(char) in ("Mn", "Me", "Mc")


def in_reading_order(text: str) -> Iterator[tuple[str, bool]]:
    """The parts of a right-to-left run as they are read, each with whether it runs from left to right: numbers do.

    What is one number is the matter of rules W1 to W5 of the Unicode Bidirectional Algorithm (UAX 9): `1/2` is one in
    Hebrew and in Arabic, `2-3` in Hebrew only, where an Arabic reader expects the 3 left of the 2.
    """
    kinds = zip(_bidirectional(text), text, strict=True)
    for is_number, part in groupby(kinds, key=lambda pair: pair[0] in _LEFT_TO_RIGHT):
        yield "".join(char for _, char in part), is_number


def _bidirectional(text: str) -> list[str]:
    """The bidirectional class of each character among its neighbours."""
    kinds: list[str] = []
    strong = "R"
    for char in text:
        kind = unicodedata.bidirectional(char)
        if kind in ("R", "AL", "L"):
            strong = kind
        elif kind in ("NSM", "BN") and kinds:
            kind = kinds[-1]
        elif kind == "EN" and strong == "AL":
            kind = "AN"
        kinds.append(kind)
    for at in range(1, len(kinds) - 1):
        before, behind = kinds[at - 1], kinds[at + 1]
        if before == behind and (kinds[at], before) in (("ES", "EN"), ("CS", "EN"), ("CS", "AN")):
            kinds[at] = before
    return _with_their_signs(kinds)


def _with_their_signs(kinds: list[str]) -> list[str]:
    """The classes with signs like % and € made part of the number that they touch."""
    for order in (range(1, len(kinds)), range(len(kinds) - 2, -1, -1)):
        for at in order:
            if kinds[at] == "ET" and kinds[at - order.step] == "EN":
                kinds[at] = "EN"
    return kinds


def _end_of_cluster(text: str, at: int) -> int:
    end = at + 1
    while end < len(text) and is_mark(text[end]) and columns(text[end]) == 0:
        end += 1
    return end


def _end_of_shaped(text: str, at: int) -> int:
    """Index behind the last letter that has the direction of the first one."""
    backwards = is_right_to_left(text[at])
    end = at + 1
    gap = 0
    for position in range(at + 1, len(text)):
        char = text[position]
        if is_shaped(char) or is_mark(char) or char in JOINERS or (backwards and _closes(text[at:end], char)):
            if unicodedata.category(char)[0] == "L" and is_right_to_left(char) is not backwards:
                break
            end, gap = position + 1, 0
        elif (
            (gap < _MAX_GAP or char.isdecimal())
            and _is_between(char, backwards)
            and "  " not in text[end : position + 1]
        ):
            gap = 0 if char.isdecimal() else gap + 1
        else:
            break
    return end


def _closes(text: str, char: str) -> bool:
    """Whether the character closes a bracket of the text: then both are mirrored."""
    return char in _CLOSING and text.count(_MIRRORED[char]) > text.count(char)


def _is_between(char: str, backwards: bool) -> bool:
    """Whether a character may stand between two words of one run."""
    if not backwards:
        return char in _JOINS_LEFT_TO_RIGHT
    return unicodedata.bidirectional(char) not in ("L", "BN") and not 0x2500 <= ord(char) <= 0x257F
