"""Fonts of this machine: which one draws a character.

Nothing is searched or opened before somebody asks: most kitchens never need a font.
"""

from __future__ import annotations

import io
import logging
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kps.paper.cmap import BadFont, Coverage, coverage_of, read_coverage

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

log = logging.getLogger(__name__)

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
    "wqy-microhei", "notosanscjk-regular", "notosanscjksc-regular", "sourcehansans-regular", "droidsansfallbackfull",
    "droidsansfallback", "wqy-zenhei", "nanumgothic", "ipagothic", "uming", "unifont",
)  # fmt: skip
_SYMBOLS: Final = ("symbola", "symbola_hint", "notoemoji-regular", "notosanssymbols2-regular")
_OF_SCRIPT: Final = {
    "ARABIC": ("notosansarabic-regular", "notonaskharabic-regular", "kacstone", "freeserif"),
    "THAI": ("notosansthai-regular", "notoloopedthai-regular", "loma", "garuda"),
    "HEBREW": ("notosanshebrew-regular", "dejavusans"),
}
_LAST_RESORTS: Final = ("unifont", "unifont_upper", "unifont_jp")
_NEVER: Final = ("lastresort", "adobeblank", "unifont_sample", "notocoloremoji")
"""Fonts that show a box or nothing for characters that they claim to have, or colours that paper has not."""
_IDEOGRAPHIC: Final = frozenset(
    ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "KANGXI", "HALFWIDTH", "FULLWIDTH")
)


@dataclass(frozen=True, slots=True)
class Face:
    """The first font of a file; a path of "" is the Latin one that Pillow brings along."""

    path: str


_BUILT_IN: Final = Face("")


class FontLost(Exception):
    """A font file cannot be drawn with: it is damaged, or it went away after it was found."""

    def __init__(self, face: Face) -> None:
        super().__init__(face.path)
        self.face = face


class Fonts:
    """The fonts of some folders, best first for each character."""

    def __init__(self, own: tuple[Path, ...], system: tuple[Path, ...]) -> None:
        self._own = _by_stem(own)
        self._system = _by_stem(system)
        self._coverage: dict[Face, Coverage | None] = {}
        self._faces: dict[str, Face | None] = {}

    @property
    def count(self) -> int:
        """How many files there are, readable or not."""
        return len(self._own) + len(self._system)

    def face_for(self, char: str) -> Face | None:
        """The font that draws this character best; None if no font has it."""
        if char not in self._faces:
            if len(self._faces) >= _MAX_REMEMBERED:
                self._faces.clear()
            self._faces[char] = self._search(char)
        return self._faces[char]

    def has(self, face: Face, text: str) -> bool:
        """Whether the font has a glyph for every character of `text`."""
        coverage = self._covered(face)
        return coverage is not None and all(ord(char) in coverage for char in text)

    def give_up(self, lost: FontLost) -> None:
        """Go on without a font that has failed; what it drew is looked for in the others."""
        self._skip(lost.face, str(lost.__cause__))
        self._faces.clear()

    def _search(self, char: str) -> Face | None:
        face = next((face for face in self._ranked(char) if self._draws(face, char)), None)
        if face is None:
            log.warning("character without glyph", extra={"character": f"U+{ord(char):04X}"})
        return face

    def _ranked(self, char: str) -> Iterator[Face]:
        """The operator's own fonts before the system's; in both the well-known ones for the script first."""
        wanted = _well_known(char)
        for fonts in (self._own, self._system):
            yield from (fonts[stem] for stem in wanted if stem in fonts)
            yield from (face for stem, face in fonts.items() if stem not in _LAST_RESORTS)
        yield _BUILT_IN
        for fonts in (self._own, self._system):
            yield from (fonts[stem] for stem in _LAST_RESORTS if stem in fonts)

    def _draws(self, face: Face, char: str) -> bool:
        """Whether there is ink: a font may claim a character and hold nothing for it that black and white can show."""
        coverage = self._covered(face)
        if coverage is None or ord(char) not in coverage:
            return False
        if char == " ":
            return True
        try:
            with drawing_with(face):
                return open_face(face, _TRIAL_PIXELS).getmask(char).getbbox() is not None
        except FontLost as lost:
            self._skip(face, str(lost.__cause__))
            return False

    def _covered(self, face: Face) -> Coverage | None:
        if face not in self._coverage:
            try:
                self._coverage[face] = _coverage(face)
            except BadFont as error:
                self._skip(face, str(error))
        return self._coverage[face]

    def _skip(self, face: Face, cause: str) -> None:
        self._coverage[face] = None
        log.warning("font skipped", extra={"file": face.path, "cause": cause})


@lru_cache(maxsize=4)
def fonts_in(font_dirs: tuple[str, ...]) -> Fonts:
    """The fonts of `font_dirs`, then those of the system. The folders are searched once per process."""
    own = tuple(_files(font_dirs))
    system = tuple(_files(_SYSTEM))
    if own or system:
        log.info("fonts found", extra={"files": len(own) + len(system)})
    else:
        log.warning("no fonts found", extra={"folders": ", ".join((*font_dirs, *_SYSTEM))})
    return Fonts(own, system)


@contextmanager
def drawing_with(face: Face) -> Iterator[None]:
    """Whatever Pillow or FreeType find wrong with the font is `FontLost`."""
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        raise FontLost(face) from error


@lru_cache(maxsize=128)
def open_face(face: Face, pixels: int) -> FreeTypeFont:
    """The font at `pixels` to the em, for use inside `drawing_with`."""
    from PIL import ImageFont

    if face == _BUILT_IN:
        font = ImageFont.load_default(pixels)
        if not isinstance(font, ImageFont.FreeTypeFont):
            raise OSError("Pillow has no FreeType")
        return font
    engine = ImageFont.Layout.RAQM if shaping() else ImageFont.Layout.BASIC
    return ImageFont.truetype(face.path, pixels, layout_engine=engine)


@lru_cache(maxsize=1)
def shaping() -> bool:
    """Whether letters can be joined and ordered: Pillow has raqm, and the system has FriBiDi."""
    from PIL import features

    able = bool(features.check_feature("raqm") and features.check_feature("fribidi"))
    if not able:
        log.warning("no text shaping", extra={"cause": "Pillow finds no raqm or no libfribidi"})
    return able


def is_shaping(font: FreeTypeFont) -> bool:
    """Whether this font's letters are joined and ordered when they are drawn; Pillow's own are not."""
    from PIL.ImageFont import Layout

    return bool(font.layout_engine == Layout.RAQM)


def is_ideographic(char: str) -> bool:
    """Whether it belongs to Chinese, Japanese or Korean writing."""
    return unicodedata.name(char, "").replace("-", " ").partition(" ")[0] in _IDEOGRAPHIC


def _well_known(char: str) -> tuple[str, ...]:
    script = unicodedata.name(char, "").replace("-", " ").partition(" ")[0]
    if script in _IDEOGRAPHIC:
        return _CHINESE_JAPANESE_KOREAN + _LETTERS
    if unicodedata.east_asian_width(char) in "WF":
        return _SYMBOLS + _CHINESE_JAPANESE_KOREAN
    if unicodedata.category(char)[0] in "LM" and script not in ("LATIN", "GREEK", "CYRILLIC", "COMBINING"):
        return (*_OF_SCRIPT.get(script, ()), f"notosans{script.lower()}-regular", f"notoserif{script.lower()}-regular")
    return _LETTERS + _SYMBOLS + _CHINESE_JAPANESE_KOREAN


def _coverage(face: Face) -> Coverage:
    if face != _BUILT_IN:
        return coverage_of(Path(face.path))
    try:
        with drawing_with(face):
            content = open_face(face, _TRIAL_PIXELS).path
    except FontLost as lost:
        raise BadFont(str(lost.__cause__)) from lost
    if not isinstance(content, io.BytesIO):
        raise BadFont("Pillow keeps its font elsewhere")
    return read_coverage(io.BytesIO(content.getvalue()))


def _files(folders: tuple[str, ...]) -> Iterator[Path]:
    """Font files below the folders, each folder in order of names; what cannot be read is not there."""
    found = searched = 0
    for folder in folders:
        for parent, children, names in os.walk(os.path.expanduser(folder)):
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


def _by_stem(paths: tuple[Path, ...]) -> dict[str, Face]:
    """Faces by lower-case file name without ending; upright regular ones before bold and slanted ones."""
    faces: dict[str, Face] = {}
    for path in sorted(paths, key=_is_variant):
        stem = path.stem.lower()
        if not stem.startswith(_NEVER):
            faces.setdefault(stem, Face(str(path)))
    return faces


def _is_variant(path: Path) -> bool:
    stem = path.stem.lower()
    return any(word in stem for word in ("bold", "italic", "oblique", "light", "thin", "black", "medium"))
