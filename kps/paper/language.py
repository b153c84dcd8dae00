"""Messages on paper in the language of the kitchen, from the catalogues in `languages`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Final

SOURCE: Final = "en"
"""The language of the messages in the code. It needs no catalogue."""
FOLDER: Final = Path(__file__).with_name("languages")


class UnknownLanguage(ValueError):
    """There is no catalogue of that language."""

    def __init__(self, language: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown language {language!r}; known are {', '.join(known)}")
        self.language = language
        self.known = known


def languages(folder: Path = FOLDER) -> tuple[str, ...]:
    """The languages that paper can be printed in, in alphabetical order: English, and each that has a catalogue."""
    return tuple(sorted({SOURCE, *(file.stem for file in folder.glob("*.po"))}))


@cache
def translator(language: str, folder: Path = FOLDER) -> Callable[[str], str]:
    """English message -> the same in that language; a message that its catalogue lacks stays English.

    Raises `UnknownLanguage`; OSError or UnicodeError if the catalogue cannot be read.
    """
    name = language.strip().lower()
    known = languages(folder)
    if name not in known:
        raise UnknownLanguage(language, known)
    if name == SOURCE:
        return str
    # Imported only here: with English paper no process needs the memory.
    from gettext import GNUTranslations

    import polib

    catalogue = polib.pofile(str(folder / f"{name}.po"), encoding="utf-8")
    return GNUTranslations(BytesIO(catalogue.to_binary())).gettext
