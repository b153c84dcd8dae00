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
    """A table of 256 characters that a printer selects by `ESC t number`. There is one object for each page."""

    name: str
    number: int
    codes: dict[str, int]
    """Character -> byte, without ASCII, which is the same in every page."""


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """One family of printers. There is one object for each, so profiles can be compared and used as keys."""

    name: str
    pages: tuple[CodePage, ...]
    """Its code pages, the most common first."""
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
    """The command for one beep; empty = it has no buzzer, or the command is not known."""
    escpos_profile: str
    """Name of the profile that python-escpos has for the same family; tests compare the two."""

    def encodable(self, char: str) -> bool:
        """Whether one of the pages has this character."""
        return char.isascii() or any(char in page.codes for page in self.pages)


@lru_cache(maxsize=1024)
def profile_of(brand: str, model: str = "") -> Profile:
    """The profile for a printer row's `printer_brand` and what the probe has read; `generic` if both are unknown.

    `brand` may name the model too (`epson tm-u220`, `TM-U220`). `model` is maker and name as the printer answers
    `GS I 66` and `GS I 67`, with a space between them; either may be missing. Case and blanks do not count.
    """
    row, named_by_device = _words(brand), _words(model)
    make = _make_of(row, a_model_will_do=True)
    if make is None:
        # A model name alone does not decide the make: clones call themselves TM-T88V.
        make = _make_of(named_by_device, a_model_will_do=False)
    if make is None:
        return profile(_GENERIC)
    return profile(make.model_of(named_by_device) or make.model_of(row) or make.name)


def profile_names() -> tuple[str, ...]:
    """The names of all profiles, in the order of `profiles.toml`."""
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
    """The profiles of one maker, and patterns for the ways in which maker and models are written."""

    name: str
    brand: str
    """Pattern of one whole word. Patterns are strings: `re` compiles them when needed and keeps them."""
    models: tuple[tuple[str, str], ...]
    """Profile and pattern of its models, the most specific first."""

    def model_of(self, words: tuple[str, ...]) -> str | None:
        """The profile whose model these words begin with; None also where an unknown maker stands before the model."""
        text = " ".join(self._without_brand(words))
        return next((name for name, pattern in self.models if re.match(pattern, text)), None)

    def named_by(self, words: tuple[str, ...]) -> bool:
        """Whether the first word is this maker's name."""
        return self._without_brand(words) != words

    def _without_brand(self, words: tuple[str, ...]) -> tuple[str, ...]:
        # In `Star Micronics TSP654` two words name the maker; in `EPSON-TM-U220` one word names maker and model.
        for count in (2, 1):
            if re.fullmatch(self.brand, "-".join(words[:count])):
                return words[count:]
        joined = re.match(rf"(?:{self.brand})-(?=\w)", words[0]) if words else None
        return (words[0][joined.end() :], *words[1:]) if joined else words


def _make_of(words: tuple[str, ...], *, a_model_will_do: bool) -> _Make | None:
    """The maker that the text begins with. With `a_model_will_do` also the maker of a model that it begins with."""
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
    """A pattern for a whole model name: it does not match a TM-T200 for TM-T20."""
    return rf"(?:{pattern})(?![\w-])"


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(_DATA.read_text(encoding="utf-8"))


@cache
def _code_page(codec: str, number: int) -> CodePage:
    """The upper half of a code page by Python's codec, without bytes that have no character or only a blank."""
    # By its module: codecs.lookup() would remember a failure that was only a shortage of descriptors.
    import_module(f"encodings.{codec}")
    characters = bytes(range(0x80, 0x100)).decode(codec, "replace")
    codes = {char: code for code, char in enumerate(characters, 0x80) if char.isprintable() and char != "\ufffd"}
    return CodePage(codec, number, codes)
