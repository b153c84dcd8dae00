"""Which texts of an order state an allergy, in whatever language the guest writes.

Only a statement counts: "alergi kacang" is one, "kacang" is food. A denial ("no allergies") counts too: telling it
from a statement in twenty languages would miss one some day, and a needless banner costs a glance.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from kps.core.text import clean

STATEMENTS: dict[str, tuple[str, ...]] = {
    "en": ("*allerg*", "*alerg*", "allegic*", "allegry", "allegy", "allregic*", "anaphyl*", "epi pen*", "celiac*",
           "coeliac*", "intoleran*", "gluten free", "no gluten", "without gluten", "lactose free", "dairy free",
           "nut free", "nuts free", "peanut free"),
    "id": ("*alergi*", "alahan*", "anafil*", "seliak*", "intoleransi*", "bebas gluten", "tanpa gluten",
           "bebas laktosa", "bebas kacang"),
    "zh": ("过敏", "過敏", "敏感", "不耐受", "不耐症", "乳糖不耐", "无麸", "無麩", "不含麸质", "不含麩質",
           "乳糜泻", "乳糜瀉"),
    "ja": ("アレルギ", "あれるぎ", "アレルゲン", "アナフィラキシ", "グルテンフリ", "グルテン抜き", "グルテン不可",
           "セリアック"),
    "ko": ("알레르", "알러지", "알레지", "앨러지", "아나필락시", "글루텐 프리", "무글루텐", "셀리악", "불내증"),
    "th": ("แพ้", "กลูเตนฟรี", "ไม่มีกลูเตน", "ปราศจากกลูเตน", "ไร้กลูเตน"),
    "lo": ("ແພ້",),
    "vi": ("dị ứng", "không gluten", "không dung nạp"),
    "ar": ("*حساسي*", "*تحسس*", "*خالي من الغلوتين*", "*خالي من الجلوتين*", "*بدون غلوتين*", "*بدون جلوتين*",
           "سيلياك*"),
    "fa": ("*آلرژی*", "*حساسی*", "*بدون گلوتن*"),
    "ur": ("*الرجی*",),
    "he": ("*אלרג*", "*ללא גלוטן*", "*צליאק*"),
    "hi": ("*एलर्ज*", "*अलर्ज*", "*ऐलर्ज*", "ग्लूटेन मुक्त*", "ग्लूटेन फ्री*"),
    "bn": ("*অ্যালার্জি*", "*এলার্জি*"),
    "ta": ("*ஒவ்வாமை*", "*அலர்ஜி*"),
    "te": ("*అలెర్జీ*", "*అలర్జీ*"),
    "de": ("*unvertraglich*", "*unvertraeglich*", "glutenfrei*", "ohne gluten", "laktosefrei*", "nussfrei*",
           "zoliakie*", "zoeliakie*", "*intoleranz*", "anaphyla*"),
    "fr": ("sans gluten", "coeliaque*", "*anaphyla*", "sans lactose"),
    "es": ("sin gluten", "libre de gluten", "anafil*", "sin lactosa"),
    "nl": ("glutenvrij*", "lactosevrij*", "notenvrij*", "pindavrij*", "coeliakie*", "overgevoelig*"),
    "pt": ("sem gluten", "anafil*", "sem lactose"),
    "it": ("senza glutine", "celiachi*", "intolleran*", "anafil*", "senza lattosio"),
    "ro": ("fara gluten", "celiac*"),
    "pl": ("uczulen*", "uczulon*", "bezgluten*", "bez glutenu", "celiak*", "nietoleranc*"),
    "cs": ("bezlep*", "bez lepku", "celiak*", "intoleranc*"),
    "hu": ("glutenmentes*", "laktozmentes*", "liszterzekeny*", "*coliakia*"),
    "tr": ("*alerji*", "glutensiz*", "laktozsuz*", "colyak*"),
    "sv": ("glutenfri*", "laktosfri*", "notfri*", "celiaki*", "overkanslig*"),
    "da": ("laktosefri*", "coliaki*", "overfolsom*"),
    "fi": ("gluteenit*", "laktoosit*", "keliaki*", "yliherk*"),
    "ru": ("*аллерг*", "*алерг*", "анафил*", "без глютена", "безглютен*", "целиак*", "непереносим*"),
    "uk": ("без глютену", "целіак*", "анафіл*"),
    "el": ("*αλλεργ*", "χωρίς γλουτένη", "κοιλιοκάκη*", "δυσανεξία*", "αναφυλα*"),
    "tl": ("alerhi*", "alerdyi*"),
}  # fmt: skip
"""Words that state an allergy or an intolerance. A `*` at an end stands for more letters: languages that write
compounds or articles in one word need it in front ("Erdnussallergie"). A space is any space or hyphen, or none.
All languages always apply: a guest writes in his own."""

_ACCENTS = re.compile("[\u0300-\u036f\u064b-\u0655\u0670\u0640]")
# Marks of Latin, Greek, Cyrillic and Arabic. Those of Thai or Devanagari are not accents: without its tone mark
# "allergic" would be any word that begins like "goat".
_LETTERS = str.maketrans({"œ": "oe", "æ": "ae", "ø": "o", "ł": "l", "đ": "d", "ı": "i", "ς": "σ"})
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3130-\u318f"
                       "\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")  # fmt: skip
# Scripts in which words touch; Korean has spaces, but writes "peanut allergy" without one.
_GAP = r"[\s\-_\u2010-\u2015]*"
_NO_LETTER_BEFORE, _NO_LETTER_BEHIND = r"(?<![^\W\d_])", r"(?![^\W\d_])"


def states_allergy(text: str, more_words: tuple[str, ...] = ()) -> bool:
    """Whether a clean `text` says that somebody must not have something; without regard to case and accents.

    `more_words` are beginnings of further words.
    """
    folded = _fold(text)
    return _pattern(more_words, folded.isascii()).search(folded) is not None


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    # Twice: styled letters like 𝐀 have no small ones before they are taken apart, ß is none behind it.
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()).casefold())
    return unicodedata.normalize("NFC", bare).translate(_LETTERS)


@lru_cache(maxsize=16)
def _pattern(more_words: tuple[str, ...], ascii_only: bool) -> re.Pattern[str]:
    """One expression for all words. It is short for a text in ASCII, where most words cannot be."""
    known = [word for words in STATEMENTS.values() for word in words]
    added = [f"{word}*" for word in (_fold(clean(word)).strip(" *") for word in more_words) if word]
    folded = {word for word in (*map(_fold, known), *added) if word.isascii() or not ascii_only}
    anywhere = {word for word in folded if _may_follow_letters(word)}
    return re.compile(f"{_any_of(anywhere)}|{_NO_LETTER_BEFORE}(?:{_any_of(folded - anywhere)})")


def _any_of(folded: set[str]) -> str:
    return "|".join(sorted(map(_expression, folded)))


def _may_follow_letters(folded: str) -> bool:
    return folded.startswith("*") or _UNSPACED.match(folded) is not None


def _expression(folded: str) -> str:
    bare = folded.strip("* ")
    core = _GAP.join(map(re.escape, bare.split()))
    open_end = folded.endswith("*") or _UNSPACED.match(bare) is not None
    return core if open_end else core + _NO_LETTER_BEHIND
