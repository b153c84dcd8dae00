"""Which font of the installation, or of this machine, draws a character.

No font is searched for or opened before a character has to be drawn: most kitchens never need one.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kps.core.limits import is_shortage

if TYPE_CHECKING:
    import uharfbuzz

log = logging.getLogger(__name__)

WITH_US: Final = Path(__file__).with_name("typefaces")
"""Folder of the fonts that are part of KPS."""
_PACKAGES: Final = ("manimgx_fonts", "noto_cjk_sans_otc")
"""Python packages that contain only fonts. They are found by name and never imported."""
_SYSTEM: Final = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
_ENDINGS: Final = frozenset((".ttf", ".otf", ".ttc", ".otc"))
_MAX_FILES: Final = 5000
_MAX_FOLDERS: Final = 2000
_TRIAL_PIXELS: Final = 24
_MAX_REMEMBERED: Final = 20_000
"""Characters whose font is remembered. A kitchen writes fewer; the limit keeps orders from filling the memory."""

_LETTERS: Final = (
    "dejavusansmono", "notosansmono-regular", "liberationmono-regular", "cousine-regular", "freemono",
    "dejavusans", "notosans-regular", "liberationsans-regular", "freesans",
)  # fmt: skip
"""Monospaced fonts first. They lack some letters of Vietnamese, so proportional ones follow."""
_CHINESE_JAPANESE_KOREAN: Final = (
    "notosanscjk-regular", "wqy-microhei", "notosanscjksc-regular", "sourcehansans-regular", "droidsansfallbackfull",
    "droidsansfallback", "wqy-zenhei", "nanumgothic", "ipagothic", "uming", "unifont",
)  # fmt: skip
_SYMBOLS: Final = (
    "notoemoji-regular", "notosanssymbols-regular", "symbola", "symbola_hint", "notosanssymbols2-regular",
)  # fmt: skip
_OF_SCRIPT: Final = {
    "ARABIC": ("notosansarabic-regular", "notonaskharabic-regular", "kacstone", "freeserif"),
    "THAI": ("notosansthai-regular", "notoloopedthai-regular", "loma", "garuda"),
    "HEBREW": ("notosanshebrew-regular", "dejavusans"),
}
_OF_COLLECTION: Final = {"notosanscjk-regular": 2}
"""Index of the font to use in a collection, where it is not the first. Of JP, KR, SC, TC and HK: SC, simplified
Chinese."""
_WRITING_SYSTEMS: Final = {
    "Chinese": "中", "Japanese": "あ", "Korean": "한", "Thai": "ก", "Arabic": "ع", "Hebrew": "א", "Hindi": "क",
    "Bengali": "ক", "Tamil": "க", "Khmer": "ក", "Lao": "ກ", "Burmese": "က", "Cyrillic": "ж", "emoji": "🍜",
}  # fmt: skip
"""One character of each writing system whose presence `kps check` reports."""
_LAST_RESORTS: Final = ("unifont", "unifont_upper", "unifont_jp")
_NEVER: Final = ("lastresort", "adobeblank", "unifont_sample", "notocoloremoji")
"""Fonts that are never used: they draw a box, nothing or only colours for characters that they claim to have."""
_IDEOGRAPHIC: Final = frozenset(
    ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "KANGXI", "HALFWIDTH", "FULLWIDTH")
)


@dataclass(frozen=True, slots=True)
class Face:
    """One font of a file."""

    path: str
    index: int = 0
    """Its index in a collection; 0 in a file of one font."""


class FontLost(Exception):
    """A font file cannot be drawn with: it is damaged, or it went away after it was found."""

    def __init__(self, face: Face) -> None:
        super().__init__(face.path)
        self.face = face


class Fonts:
    """The fonts of some folders. For each character it names the best one; an earlier group goes before a later one."""

    def __init__(self, *groups: tuple[Path, ...]) -> None:
        self._groups = tuple(_by_stem(files) for files in groups)
        self._lost: set[Face] = set()
        self._chosen: dict[str, Face | None] = {}

    @property
    def count(self) -> int:
        """How many files there are, readable or not."""
        return sum(map(len, self._groups))

    def face_for(self, char: str) -> Face | None:
        """The font that draws this character best; None if no font has it."""
        if char not in self._chosen:
            if len(self._chosen) >= _MAX_REMEMBERED:
                self._chosen.clear()
            self._chosen[char] = self._search(char)
        return self._chosen[char]

    def lacking(self) -> tuple[str, ...]:
        """Names of the writing systems that no font here has."""
        return tuple(name for name, char in _WRITING_SYSTEMS.items() if self._best(char) is None)

    def has(self, face: Face, text: str) -> bool:
        """Whether the font has a glyph for every character of `text`."""
        return all(self._knows(face, char) for char in text)

    def give_up(self, lost: FontLost) -> None:
        """Do not use this font any more: it has failed. Its characters are looked for in the others."""
        self._skip(lost.face, str(lost.__cause__))
        self._chosen.clear()

    def _search(self, char: str) -> Face | None:
        face = self._best(char)
        if face is None:
            log.warning("character without glyph", extra={"character": f"U+{ord(char):04X}"})
        return face

    def _best(self, char: str) -> Face | None:
        return next((face for face in self._ranked(char) if self._draws(face, char)), None)

    def _ranked(self, char: str) -> Iterator[Face]:
        """The fonts in the order in which they are tried: by group, in each first those preferred for the script. Fonts
        with coarse glyphs for nearly all characters come last."""
        wanted = _preferred(char)
        for fonts in self._groups:
            yield from (fonts[stem] for stem in wanted if stem in fonts)
            yield from (face for stem, face in fonts.items() if stem not in _LAST_RESORTS)
        for fonts in self._groups:
            yield from (fonts[stem] for stem in _LAST_RESORTS if stem in fonts)

    def _draws(self, face: Face, char: str) -> bool:
        """Whether the font draws something for the character: it may claim one and have no outline for it."""
        if not self._knows(face, char):
            return False
        if char == " ":
            return True
        try:
            return has_ink(face, char)
        except FontLost as lost:
            self._skip(face, str(lost.__cause__))
            return False

    def _knows(self, face: Face, char: str) -> bool:
        """Whether the font has a glyph for the character, even an empty one."""
        if face in self._lost:
            return False
        try:
            with drawing_with(face):
                return bool(open_face(face).get_nominal_glyph(ord(char)))
        except FontLost as lost:
            self._skip(face, str(lost.__cause__))
            return False

    def _skip(self, face: Face, cause: str) -> None:
        self._lost.add(face)
        log.warning("font skipped", extra={"file": face.path, "cause": cause})


@lru_cache(maxsize=4)
def fonts_in(font_dirs: tuple[str, ...]) -> Fonts:
    """The fonts of `font_dirs`, then the installation's, then the system's. Searched for once per process."""
    own = tuple(_files(font_dirs))
    brought = tuple(_files(_installed_folders()))
    system = tuple(_files(_SYSTEM))
    if own or brought or system:
        log.info("fonts found", extra={"files": len(own) + len(brought) + len(system)})
    else:
        log.warning("no fonts found", extra={"folders": ", ".join((*font_dirs, *_SYSTEM))})
    return Fonts(own, brought, system)


def undrawable(font_dirs: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the writing systems that come out as `[U+XXXX]` here. With all font packages there no font is opened."""
    if all(any(_files((folder,))) for folder in _installed_folders()) and len(_installed_folders()) > len(_PACKAGES):
        return ()
    return fonts_in(font_dirs).lacking()


def _installed_folders() -> tuple[str, ...]:
    """Folders of the fonts that were installed with KPS. A package that was removed is left out."""
    specs = map(importlib.util.find_spec, _PACKAGES)
    return (str(WITH_US), *(folder for spec in specs if spec for folder in spec.submodule_search_locations or ()))


@contextmanager
def drawing_with(face: Face) -> Iterator[None]:
    """Turn every fault of the font, or of the library that draws, into `FontLost`; a shortage of descriptors passes."""
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        if is_shortage(error):
            raise
        raise FontLost(face) from error


@lru_cache(maxsize=64)
def open_face(face: Face) -> uharfbuzz.Font:
    """The font, mapped into memory. To be called inside `drawing_with`."""
    import uharfbuzz

    with open(face.path, "rb"):  # HarfBuzz does not say why it cannot
        pass
    try:
        opened = uharfbuzz.Face(uharfbuzz.Blob.from_file_path(face.path), face.index)
    except uharfbuzz.HarfBuzzError as error:
        raise OSError(str(error)) from error
    if not opened.glyph_count:
        raise OSError("no glyphs")
    font = uharfbuzz.Font(opened)
    font.scale = (_TRIAL_PIXELS, _TRIAL_PIXELS)
    return font


def has_ink(face: Face, char: str) -> bool:
    """Whether the font has an outline for the character; a coloured or bitmap glyph is none. Raises `FontLost`."""
    with drawing_with(face):
        import uharfbuzz

        font = open_face(face)
        pen = uharfbuzz.RasterDraw()
        pen.draw_glyph(font, font.get_nominal_glyph(ord(char)) or 0)
        image = pen.render()
        return image is not None and any(image.buffer)


def is_ideographic(char: str) -> bool:
    """Whether the character belongs to Chinese, Japanese or Korean writing."""
    return script_of(char) in _IDEOGRAPHIC


def script_of(char: str) -> str:
    """The first word of the character's Unicode name, which for letters is the script: `THAI`."""
    return unicodedata.name(char, "").replace("-", " ").partition(" ")[0]


def _preferred(char: str) -> tuple[str, ...]:
    script = script_of(char)
    if script in _IDEOGRAPHIC:
        return _CHINESE_JAPANESE_KOREAN + _LETTERS
    if unicodedata.east_asian_width(char) in "WF":
        return _SYMBOLS + _CHINESE_JAPANESE_KOREAN
    if unicodedata.category(char)[0] in "LM" and script not in ("LATIN", "GREEK", "CYRILLIC", "COMBINING"):
        return (*_OF_SCRIPT.get(script, ()), f"notosans{script.lower()}-regular", f"notoserif{script.lower()}-regular")
    return _LETTERS + _SYMBOLS + _CHINESE_JAPANESE_KOREAN


def _files(folders: tuple[str, ...]) -> Iterator[Path]:
    """Font files below the folders, in each folder by name. What cannot be read is left out."""
    found = searched = 0
    for folder in folders:
        for parent, children, names in os.walk(os.path.expanduser(folder), onerror=_unless_short):
            children.sort()
            searched += 1
            if searched > _MAX_FOLDERS:
                return
            for name in sorted(names):
                file = Path(parent, name)
                # Opening a pipe with such a name would block for ever.
                if file.suffix.lower() in _ENDINGS and found < _MAX_FILES and file.is_file():
                    found += 1
                    yield file


def _unless_short(error: OSError) -> None:
    """Raise the error if it is a shortage of descriptors: its folder must not be taken for one that cannot be read."""
    if is_shortage(error):
        raise error


def _by_stem(paths: tuple[Path, ...]) -> dict[str, Face]:
    """Fonts by lower-case file name without ending; regular ones before bold and slanted ones."""
    faces: dict[str, Face] = {}
    for path in sorted(paths, key=_is_variant):
        stem = path.stem.lower()
        # A variable font is drawn in its regular weight.
        family, varies, _ = stem.partition("[")
        if varies and "-" not in family:
            stem = f"{family}-regular"
        if not stem.startswith(_NEVER):
            faces.setdefault(stem, Face(str(path), _OF_COLLECTION.get(stem, 0)))
    return faces


def _is_variant(path: Path) -> bool:
    stem = path.stem.lower()
    return any(word in stem for word in ("bold", "italic", "oblique", "light", "thin", "black", "medium"))
