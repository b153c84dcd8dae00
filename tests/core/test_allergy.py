"""A statement of an allergy is found in the guest's own words, and food alone is none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kps.core.allergy import STATEMENTS, states_allergy


@pytest.mark.parametrize(
    "text",
    [
        "allergic to nuts",
        "NUT ALLERGY!!",
        "Allergies: shellfish",
        "peanut-allergy",
        "severe anaphylaxis",
        "alergic to prawns",
        "allegic to egg",
        "coeliac",
        "Celiac disease",
        "gluten free",
        "Gluten-Free",
        "glutenfree bread",
        "GLUTEN  FREE",
        "nut\u2011free please",
        "lactose intolerant",
        "Alergi kacang",
        "tamu alergi udang!",
        "punya elergi? alerginya telur",
        "bebas gluten",
        "tanpa gluten",
        "alahan makanan laut",
        "对花生过敏",
        "海鮮過敏",
        "海鮮敏感",
        "乳糖不耐",
        "えびアレルギー",
        "ピーナッツｱﾚﾙｷﾞｰあり",
        "땅콩알레르기 있어요",
        "새우 알러지",
        "แพ้กุ้ง",
        "ลูกค้าแพ้ถั่ว",
        "Dị ứng tôm",
        "di ung hai san",
        "DỊ ỨNG",
        "di\u0323 u\u031b\u0301ng",
        "حساسية من الفول السوداني",
        "عنده حساسيه",
        "والحساسية",
        "عندي حَسَاسِيَّة",
        "به بادام زمینی آلرژی دارم",
        "אלרגי לבוטנים",
        "मूंगफली से एलर्जी",
        "Erdnussallergie",
        "Nuß-Allergiker",
        "Laktoseunverträglichkeit",
        "GLUTENFREI",
        "Zöliakie",
        "allergique aux noix",
        "sans gluten",
        "cœliaque",
        "alérgico a los mariscos",
        "ALERGICO",
        "sin gluten",
        "celíaca",
        "notenallergie",
        "glutenvrij",
        "sem glúten",
        "allergico alle noci",
        "senza glutine",
        "intolleranza al lattosio",
        "аллергия на орехи",
        "Без глютена",
        "алергія на горіхи",
        "αλλεργία στα καρύδια",
        "ΑΛΛΕΡΓΙΑ",
        "χωρίς γλουτένη",
        "alergie na ořechy",
        "bezlepkový",
        "uczulenie na orzechy",
        "FISTIK ALERJİSİ",
        "glutensiz",
        "nötallergi",
        "𝐀𝐋𝐋𝐄𝐑𝐆𝐘",
        "ᴺᵘᵗ 𝕒𝕝𝕝𝕖𝕣𝕘𝕪",
        "epi pen",
        "has an Epi-Pen",
        "EPIPEN",
        "nut allegy",
        "allregic to nuts",
        "ແພ້ກຸ້ງ",
        "overfølsom for nødder",
    ],
)
def test_a_statement_is_one_in_any_language(text: str) -> None:
    assert states_allergy(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kacang",
        "sambal kacang dipisah",
        "extra peanuts",
        "no nuts",
        "without onions",
        "gluten",
        "1 egg free",
        "free range egg",
        "smaller glass",
        "gallery table",
        "pedas gila",
        "tanpa bawang",
        "antar di Ungaran",
        "epic pen",
        "ແພະ",
        "taruh di ungu",
        "花生",
        "少辣 不要香菜",
        "不耐烦",
        "えび",
        "새우",
        "แพะ",
        "แพนเค้ก",
        "แพง",
        "กุ้ง",
        "tôm",
        "من فضلك الرجاء",
        "الرجل",
        "مूंगफली",
        "Nüsse",
        "sans oignon",
        "sin cebolla",
        "без лука",
        "χωρίς κρεμμύδι",
        'meja dekat AC, antar bareng "es teh"',
    ],
)
def test_food_alone_is_no_statement(text: str) -> None:
    assert not states_allergy(text)


@pytest.mark.parametrize("language", STATEMENTS)
def test_every_word_of_the_lists_is_found_in_a_sentence(language: str) -> None:
    for word in STATEMENTS[language]:
        bare = word.strip("*")
        for text in (bare, bare.upper(), f"x, {bare}!", f"({bare})"):
            assert states_allergy(text), text


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        (("kacang",), "extra KACANG", True),
        (("kacang",), "kacangan", True),
        (("kacang",), "perkacangan", False),
        (("nüss",), "keine Nusse", True),
        (("nuss",), "keine Nüße", True),
        (("花生",), "不要花生", True),
        (("no nut",), "no-nuts please", True),
        (("", "  ", "*", "\u0301", "\x00"), "kacang", False),
        (("kacang*",), "kacang", True),
        (("(", "a.c"), "abc (", True),
        (("a.c",), "abc", False),
    ],
)
def test_an_operator_may_add_beginnings_of_words(words: tuple[str, ...], text: str, expected: bool) -> None:
    assert states_allergy(text, words) is expected
    assert not states_allergy(text)


@settings(deadline=None)  # Each new word makes a new expression.
@given(text=st.text(), words=st.lists(st.text(max_size=5), max_size=3).map(tuple))
def test_no_text_and_no_word_breaks_the_search(text: str, words: tuple[str, ...]) -> None:
    assert states_allergy(f"{text} allergy {text}", words)
