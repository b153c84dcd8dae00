"""Text for a printer that can neither write nor draw it: the same words in letters that it has.

A cook can say `Gong Bao Ji Ding` and look at the menu; what has no reading at all comes out as `[U+XXXX]`, which can
at least be looked up. Nothing is dropped silently, but an accent goes with its letter: `é` becomes `e`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby
from typing import Final

from kps.core.text import JOINERS, substitute

_OWN_READINGS: Final = {"×": "x", "ー": "-", "ｰ": "-", "〜": "~", "ا": "a", "ـ": "-", "އ": "a", "ອ": "o", "ๅ": "a"}
"""Readings that differ from anyascii's, as kitchens expect them (2 × is not 2 *), and letters that it leaves out."""
_CLOSING: Final = frozenset(".,:;!?)]}")
_SKIN_TONES: Final = frozenset(map(chr, range(0x1F3FB, 0x1F400)))


class _Sort(Enum):
    """Whether a piece needs a space between itself and its neighbours."""

    PLAIN = auto()
    SYLLABLE = auto()
    """A Chinese character or a Korean syllable: a word of its own."""
    NUMBER = auto()
    """½, ① and the like: needs a space from digits beside it."""
    WIDE_MARK = auto()
    """Punctuation whose full-width form includes its space: 、 and 。"""


@dataclass(frozen=True, slots=True)
class _Piece:
    """The reading of one character."""

    text: str
    sort: _Sort = _Sort.PLAIN


def transliterate(text: str, encodable: Callable[[str], bool]) -> str:
    """The text in characters that are all encodable; what is encodable already stays as it is.

    `encodable` judges single characters and must accept printable ASCII. A text that needs nothing comes back as the
    same object. Otherwise it is in NFC, and may have become longer or shorter: measure and wrap it again. Whether
    the ASCII characters of the text are harmless is not judged here (`clean`).
    """
    if all(map(encodable, text)):
        return text
    composed = unicodedata.normalize("NFC", "".join(char for char in text if char not in JOINERS))
    return "".join(_spaced(_pieces(composed, encodable)))


def _pieces(text: str, encodable: Callable[[str], bool]) -> Iterator[_Piece]:
    before = " "
    for is_word, chars in groupby(text, _is_letter_or_mark):
        word = list(chars)
        if is_word and not _has_its_script(word, encodable):
            native = _without_foreign_letters(encodable)
        else:
            native = encodable
        for char in word:
            if native(char):
                yield _Piece(char)
            elif (reading := _reading(char, native)) is not None:
                yield _Piece(reading, _sort_of(char))
            elif not (_goes_with_its_letter(char) and not before.isspace()):
                yield _Piece(substitute(char, encodable))
            before = char


def _has_its_script(word: list[str], encodable: Callable[[str], bool]) -> bool:
    """Whether the printer has all letters of a word that is not Latin. If not, none is kept: a word is not mixed."""
    return all(encodable(char) or _bare(char, encodable) is not None for char in word if _is_foreign_letter(char))


def _without_foreign_letters(encodable: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda char: encodable(char) and not _is_foreign_letter(char)


def _reading(char: str, encodable: Callable[[str], bool]) -> str | None:
    """The reading of the character; None = there is none."""
    return _OWN_READINGS.get(char) or _superscript(char) or _bare(char, encodable) or _romanised(char)


def _superscript(char: str) -> str | None:
    """³ as ^3, or 10³ would become 103."""
    digit = unicodedata.digit(char, None)
    if digit is not None and unicodedata.decomposition(char).startswith("<super>"):
        return f"^{digit}"
    return None


def _bare(char: str, encodable: Callable[[str], bool]) -> str | None:
    """The character without accents, ligatures and widths, if the printer has it so."""
    parts = "".join(part for part in unicodedata.normalize("NFKD", char) if not _is_mark(part))
    if not parts.strip() and not char.isspace():
        return None  # the NFKD form of ´ is a blank with an accent
    return parts if parts.isprintable() and all(map(encodable, parts)) else None


def _romanised(char: str) -> str | None:
    from anyascii import anyascii  # only for the first text that needs it: most printers never do

    reading = anyascii(char)
    # A blank is a reading only for blanks and for what divides words.
    is_reading = bool(reading.strip()) or (reading != "" and unicodedata.category(char)[0] in "ZP")
    return reading if is_reading and reading.isprintable() else None


def _sort_of(char: str) -> _Sort:
    name = unicodedata.name(char, "")
    if name.startswith(("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "HANGUL SYLLABLE")):
        return _Sort.SYLLABLE
    category = unicodedata.category(char)
    if category in ("No", "Nl"):
        return _Sort.NUMBER
    if category[0] == "P" and unicodedata.east_asian_width(char) in ("W", "F"):
        return _Sort.WIDE_MARK
    return _Sort.PLAIN


def _spaced(pieces: Iterable[_Piece]) -> Iterator[str]:
    before = _Piece("")
    for piece in pieces:
        if before.text and piece.text and _needs_space(before, piece):
            yield " "
        yield piece.text
        before = piece


def _needs_space(left: _Piece, right: _Piece) -> bool:
    end, start = left.text[-1], right.text[0]
    if left.sort is _Sort.WIDE_MARK and end in _CLOSING:
        return start.isalnum()
    sorts = (left.sort, right.sort)
    if _Sort.SYLLABLE in sorts:
        return end.isalnum() and start.isalnum()
    return _Sort.NUMBER in sorts and end.isdigit() and start.isdigit()


def _is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] == "M"


def _is_letter_or_mark(char: str) -> bool:
    return unicodedata.category(char)[0] in "LM"


def _is_foreign_letter(char: str) -> bool:
    return not char.isascii() and char.isalpha() and "LATIN" not in unicodedata.name(char, "")


def _goes_with_its_letter(char: str) -> bool:
    """Whether it is an accent, a tone or a skin colour: left out together with the character that it modifies."""
    return _is_mark(char) or char in _SKIN_TONES
