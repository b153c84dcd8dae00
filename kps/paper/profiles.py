"""What may be sent to a printer of a make and model: its code pages, its dots, its voice.

The facts are data (`profiles.toml`, each with its source); here stands only how a printer finds its profile:

* `printer_brand` is a person's word, and decides the make. What the printer says of itself never leads to another
  make: clones answer with others' names.
* Within the make the printer's own word about its model goes first, then the person's: `EPSON` / `TM-T20III`.
* Only where the person names no make that we know, the printer's maker decides, if it gives one that we know.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

_DATA: Final = Path(__file__).with_name("profiles.toml")
_GENERIC: Final = "generic"
_WORDS: Final = re.compile(r"[\s_,;:/()]+")


@dataclass(frozen=True, slots=True, eq=False)
class CodePage:
    """A table of 256 characters that a printer selects by `ESC t number`. The same page is the same object."""

    name: str
    number: int
    codes: dict[str, int]
    """Character -> byte, without ASCII, which is the same in every page."""


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """One family of printers. There is one object of each, so it can be compared and be a key."""

    name: str
    pages: tuple[CodePage, ...]
    """Best known first."""
    kanji_off: bool
    """Whether bytes >= 80 may be taken in pairs as Chinese after ESC @, unless FS . says otherwise."""
    raster: bool
    """Whether it prints pictures by `GS v 0`; without, text is transliterated."""
    cell_width: int
    """Dots of a character of the normal font: 12 for font A of thermal printers."""
    cell_height: int
    """Dots: 24 for font A of thermal printers."""
    line_height: int
    """Dots from one line of normal size to the next: 30 is Epson's default (ESC 2); 1/6 inch at 203 dpi is 34."""
    beep: bytes
    """Makes it heard once; empty = it cannot be heard, or nobody knows how."""
    escpos_profile: str
    """Name of python-escpos's profile of the same family, to compare with."""

    def encodable(self, char: str) -> bool:
        """Whether one of the pages has this character."""
        return char.isascii() or any(char in page.codes for page in self.pages)


@lru_cache(maxsize=1024)
def profile_of(brand: str, model: str = "") -> Profile:
    """The profile for a printer row's `printer_brand` and what the probe has read; `generic` if nobody knows it.

    `brand` may name the model too (`epson tm-u220`, `TM-U220`). `model` is maker and name as the printer tells them
    (GS I 66 and 67), parted by a space, either of them perhaps missing. Case and blanks do not count.
    """
    row, told = _words(brand), _words(model)
    make = _make_of(row, a_model_will_do=True)
    if make is None:
        # A name alone proves too little: clones call themselves TM-T88V.
        make = _make_of(told, a_model_will_do=False)
    if make is None:
        return profile(_GENERIC)
    return profile(make.model_of(told) or make.model_of(row) or make.name)


def profile_names() -> tuple[str, ...]:
    """The names of all profiles, in the order of the data."""
    return tuple(_tables())


@cache
def profile(name: str) -> Profile:
    """The profile of that name. Raises KeyError if there is none."""
    table = _tables()[name]
    cell_width, cell_height = table["cell"]
    return Profile(
        name=name,
        pages=tuple(_code_page(codec, number) for codec, number in table["pages"]),
        kanji_off=table["kanji_off"],
        raster=table["raster"],
        cell_width=cell_width,
        cell_height=cell_height,
        line_height=table["line_height"],
        beep=bytes.fromhex(table["beep"]),
        escpos_profile=table["escpos_profile"],
    )


@dataclass(frozen=True, slots=True)
class _Make:
    """The profiles of one maker, and how both are written."""

    name: str
    brand: str
    """Pattern of one whole word. Patterns are compiled when a printer needs them, and kept by `re`."""
    models: tuple[tuple[str, str], ...]
    """Profile and pattern of its models, the most special first."""

    def model_of(self, words: tuple[str, ...]) -> str | None:
        """The profile whose model these words begin with. A maker whom we do not know, before it, spoils it."""
        text = " ".join(self._without_brand(words))
        return next((name for name, pattern in self.models if re.match(pattern, text)), None)

    def named_by(self, words: tuple[str, ...]) -> bool:
        """Whether the first word is this make."""
        return self._without_brand(words) != words

    def _without_brand(self, words: tuple[str, ...]) -> tuple[str, ...]:
        # `Star Micronics TSP654` has two words of make, `EPSON-TM-U220` one word of both.
        for count in (2, 1):
            if re.fullmatch(self.brand, "-".join(words[:count])):
                return words[count:]
        joined = re.match(rf"(?:{self.brand})-(?=\w)", words[0]) if words else None
        return (words[0][joined.end() :], *words[1:]) if joined else words


def _make_of(words: tuple[str, ...], *, a_model_will_do: bool) -> _Make | None:
    """The make that a text begins with; or, if that will do, the one that has a model as the text begins with."""
    named = next((make for make in _makes() if make.named_by(words)), None)
    if named is None and a_model_will_do:
        return next((make for make in _makes() if make.model_of(words)), None)
    return named


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in _WORDS.split(text.casefold()) if word)


@cache
def _makes() -> tuple[_Make, ...]:
    return tuple(_make(name, table["brands"]) for name, table in _tables().items() if "brands" in table)


def _make(name: str, brands: Iterable[str]) -> _Make:
    models = [
        (profile_name, _model(pattern))
        for profile_name, table in _tables().items()
        if name in (profile_name, table.get("family"))
        for pattern in table.get("models", ())
    ]
    return _Make(name, "|".join(brands), tuple(models))


def _model(pattern: str) -> str:
    """A model is whole: a TM-T200 is no TM-T20."""
    return rf"(?:{pattern})(?![\w-])"


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(_DATA.read_text(encoding="utf-8"))


@cache
def _code_page(codec: str, number: int) -> CodePage:
    """The upper half of a page as Python knows it; what has no ink, or no character, is left out."""
    # By its module: that a codec was not found for want of a descriptor would be remembered.
    import_module(f"encodings.{codec}")
    characters = bytes(range(0x80, 0x100)).decode(codec, "replace")
    codes = {char: code for code, char in enumerate(characters, 0x80) if char.isprintable() and char != "\ufffd"}
    return CodePage(codec, number, codes)
