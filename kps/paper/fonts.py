"""Fonts of the installation and of this machine: which one draws a character.

Nothing is searched or opened before somebody asks: most kitchens never need a font.
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
"""Fonts that lie in KPS itself."""
_PACKAGES: Final = ("manimgx_fonts", "noto_cjk_sans_otc")
"""Packages of nothing but fonts that the installation brings: found by name, never imported."""
_SYSTEM: Final = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
_ENDINGS: Final = frozenset((".ttf", ".otf", ".ttc", ".otc"))
_MAX_FILES: Final = 5000
_MAX_FOLDERS: Final = 2000
_TRIAL_PIXELS: Final = 24
_MAX_REMEMBERED: Final = 20_000
"""Characters; more than any kitchen writes, fewer than somebody could order to fill our memory."""

_LETTERS: Final = (
    "dejavusansmono", "notosansmono-regular", "liberationmono-regular", "cousine-regular", "freemono",
    "dejavusans", "notosans-regular", "liberationsans-regular", "freesans",
)  # fmt: skip
"""Monospaced ones first; they lack some letters of Vietnamese."""
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
"""Which font of a file counts where it is not the first: of JP, KR, SC, TC and HK the one with China's shapes."""
_WRITINGS: Final = {
    "Chinese": "中", "Japanese": "あ", "Korean": "한", "Thai": "ก", "Arabic": "ع", "Hebrew": "א", "Hindi": "क",
    "Bengali": "ক", "Tamil": "க", "Khmer": "ក", "Lao": "ກ", "Burmese": "က", "Cyrillic": "ж", "emoji": "🍜",
}  # fmt: skip
"""A character of each that the installation brings fonts for, and people ask for."""
_LAST_RESORTS: Final = ("unifont", "unifont_upper", "unifont_jp")
_NEVER: Final = ("lastresort", "adobeblank", "unifont_sample", "notocoloremoji")
"""Fonts that show a box or nothing for characters that they claim to have, or colours that paper has not."""
_IDEOGRAPHIC: Final = frozenset(
    ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "KANGXI", "HALFWIDTH", "FULLWIDTH")
)


@dataclass(frozen=True, slots=True)
class Face:
    """One font of a file."""

    path: str
    index: int = 0
    """Its place in a collection."""


class FontLost(Exception):
    """A font file cannot be drawn with: it is damaged, or it went away after it was found."""

    def __init__(self, face: Face) -> None:
        super().__init__(face.path)
        self.face = face


class Fonts:
    """The fonts of some folders, best first for each character. A font of an earlier group outdoes all later ones."""

    def __init__(self, *groups: tuple[Path, ...]) -> None:
        self._groups = tuple(_by_stem(files) for files in groups)
        self._lost: set[Face] = set()
        self._faces: dict[str, Face | None] = {}

    @property
    def count(self) -> int:
        """How many files there are, readable or not."""
        return sum(map(len, self._groups))

    def face_for(self, char: str) -> Face | None:
        """The font that draws this character best; None if no font has it."""
        if char not in self._faces:
            if len(self._faces) >= _MAX_REMEMBERED:
                self._faces.clear()
            self._faces[char] = self._search(char)
        return self._faces[char]

    def lacking(self) -> tuple[str, ...]:
        """The writings that no font has, by their names."""
        return tuple(name for name, char in _WRITINGS.items() if self._best(char) is None)

    def has(self, face: Face, text: str) -> bool:
        """Whether the font has a glyph for every character of `text`."""
        return all(self._knows(face, char) for char in text)

    def give_up(self, lost: FontLost) -> None:
        """Go on without a font that has failed; what it drew is looked for in the others."""
        self._skip(lost.face, str(lost.__cause__))
        self._faces.clear()

    def _search(self, char: str) -> Face | None:
        face = self._best(char)
        if face is None:
            log.warning("character without glyph", extra={"character": f"U+{ord(char):04X}"})
        return face

    def _best(self, char: str) -> Face | None:
        return next((face for face in self._ranked(char) if self._draws(face, char)), None)

    def _ranked(self, char: str) -> Iterator[Face]:
        """Group by group, in each the well-known ones for the script first; behind all of them the last resorts."""
        wanted = _well_known(char)
        for fonts in self._groups:
            yield from (fonts[stem] for stem in wanted if stem in fonts)
            yield from (face for stem, face in fonts.items() if stem not in _LAST_RESORTS)
        for fonts in self._groups:
            yield from (fonts[stem] for stem in _LAST_RESORTS if stem in fonts)

    def _draws(self, face: Face, char: str) -> bool:
        """Whether there is ink: a font may claim a character and hold nothing for it that black and white can show."""
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
        """Whether the font has a glyph for the character, be it an empty one."""
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
    brought = tuple(_files(_brought()))
    system = tuple(_files(_SYSTEM))
    if own or brought or system:
        log.info("fonts found", extra={"files": len(own) + len(brought) + len(system)})
    else:
        log.warning("no fonts found", extra={"folders": ", ".join((*font_dirs, *_SYSTEM))})
    return Fonts(own, brought, system)


def undrawable(font_dirs: tuple[str, ...]) -> tuple[str, ...]:
    """The writings that come out as `[U+XXXX]` here. Nothing is opened as long as the installation is whole."""
    if all(any(_files((folder,))) for folder in _brought()) and len(_brought()) > len(_PACKAGES):
        return ()
    return fonts_in(font_dirs).lacking()


def _brought() -> tuple[str, ...]:
    """Folders of fonts that came with the installation; a package that was taken out is not there."""
    specs = map(importlib.util.find_spec, _PACKAGES)
    return (str(WITH_US), *(folder for spec in specs if spec for folder in spec.submodule_search_locations or ()))


@contextmanager
def drawing_with(face: Face) -> Iterator[None]:
    """Whatever is wrong with the font, or with what draws, is `FontLost`; that nothing can be opened now is not."""
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        if is_shortage(error):
            raise
        raise FontLost(face) from error


@lru_cache(maxsize=64)
def open_face(face: Face) -> uharfbuzz.Font:
    """The font, mapped into memory, for use inside `drawing_with`."""
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
    """Whether the font has an outline for the character; a picture in colours or dots is none. Raises `FontLost`."""
    with drawing_with(face):
        import uharfbuzz

        font = open_face(face)
        pen = uharfbuzz.RasterDraw()
        pen.draw_glyph(font, font.get_nominal_glyph(ord(char)) or 0)
        image = pen.render()
        return image is not None and any(image.buffer)


def is_ideographic(char: str) -> bool:
    """Whether it belongs to Chinese, Japanese or Korean writing."""
    return script_of(char) in _IDEOGRAPHIC


def script_of(char: str) -> str:
    """The word for its script, like `THAI`, with which Unicode begins the name of a letter."""
    return unicodedata.name(char, "").replace("-", " ").partition(" ")[0]


def _well_known(char: str) -> tuple[str, ...]:
    script = script_of(char)
    if script in _IDEOGRAPHIC:
        return _CHINESE_JAPANESE_KOREAN + _LETTERS
    if unicodedata.east_asian_width(char) in "WF":
        return _SYMBOLS + _CHINESE_JAPANESE_KOREAN
    if unicodedata.category(char)[0] in "LM" and script not in ("LATIN", "GREEK", "CYRILLIC", "COMBINING"):
        return (*_OF_SCRIPT.get(script, ()), f"notosans{script.lower()}-regular", f"notoserif{script.lower()}-regular")
    return _LETTERS + _SYMBOLS + _CHINESE_JAPANESE_KOREAN


def _files(folders: tuple[str, ...]) -> Iterator[Path]:
    """Font files below the folders, each folder in order of names; what cannot be read is not there."""
    found = searched = 0
    for folder in folders:
        for parent, children, names in os.walk(os.path.expanduser(folder), onerror=_unless_short):
            children.sort()
            searched += 1
            if searched > _MAX_FOLDERS:
                return
            for name in sorted(names):
                file = Path(parent, name)
                # A pipe of that name would keep us for ever.
                if file.suffix.lower() in _ENDINGS and found < _MAX_FILES and file.is_file():
                    found += 1
                    yield file


def _unless_short(error: OSError) -> None:
    """A folder that cannot be read is not there; one that cannot be opened just now is, and must not be forgotten."""
    if is_shortage(error):
        raise error


def _by_stem(paths: tuple[Path, ...]) -> dict[str, Face]:
    """Faces by lower-case file name without ending; upright regular ones before bold and slanted ones."""
    faces: dict[str, Face] = {}
    for path in sorted(paths, key=_is_variant):
        stem = path.stem.lower()
        # A font that varies in weight is drawn with the regular one.
        family, varies, _ = stem.partition("[")
        if varies and "-" not in family:
            stem = f"{family}-regular"
        if not stem.startswith(_NEVER):
            faces.setdefault(stem, Face(str(path), _OF_COLLECTION.get(stem, 0)))
    return faces


def _is_variant(path: Path) -> bool:
    stem = path.stem.lower()
    return any(word in stem for word in ("bold", "italic", "oblique", "light", "thin", "black", "medium"))
