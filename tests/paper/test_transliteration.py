"""A printer without pictures prints something that can be read for every text, and only what it has letters for."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.paper.profiles import profile, profile_names
from kps.paper.transliteration import transliterate

ASCII = str.isascii
NEEDLES = profile("epson-tm-u220").encodable
ORDER_TEXT = st.text(
    st.sampled_from("ab1 é½³①×宫한ーカ\u0301\u0303คก็ما\u064eक\u094d辣，。（）ßﬁαλЇ☃😀🏽\ufe0f\u200d\ue000─│[]+-")
    | st.characters(),
    max_size=80,
)
PRINTERS = st.sampled_from([ASCII, *(profile(name).encodable for name in profile_names())])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nasi goreng", "Nasi goreng"),
        ("phở bò", "pho bo"),
        ("crème brûlée", "creme brulee"),
        ("Łódź, đặc, smørrebrød, Straße", "Lodz, dac, smorrebrod, Strasse"),
        ("Ａ１ ﬁ", "A1 fi"),
        ("宫保鸡丁", "Gong Bao Ji Ding"),
        ("宫保鸡丁x2", "Gong Bao Ji Ding x2"),
        ("2宫", "2 Gong"),
        ("不要辣，加饭。（大）", "Bu Yao La, Jia Fan.(Da)"),
        ("비빔밥 김치", "Bi Bim Bab Gim Chi"),
        ("ラーメン セット", "ra-men setto"),
        ("寿司セット", "Shou Si setto"),
        ("ﾗｰﾒﾝ", "ra-men"),
        ("ส้มตำ", "smtam"),
        ("मसाला डोसा", "msala dosa"),
        ("Борщ", "Borshch"),
        ("Ελληνικά", "Ellinika"),
        ("كباب", "kbab"),
        ("كَبَاب", "kabaab"),
        ("2× „extra“ – …", '2x "extra" - ...'),
        ("🌶 hot 👍🏽", ":hot_pepper: hot :thumbsup:"),
        ("5 € ½", "5 EUR 1/2"),
    ],
)
def test_words_become_readable_in_ascii(text: str, expected: str) -> None:
    assert transliterate(text, ASCII) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1½", "1 1/2"),
        ("½2", "1/2 2"),
        ("10³", "10^3"),
        ("①②", "1 2"),
        ("x①", "x1"),
    ],
)
def test_figures_do_not_run_together_into_others(text: str, expected: str) -> None:
    assert transliterate(text, ASCII) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Café Łódź ½ 10³ €", "Café Łódź ½ 10³ €"),
        ("bò", "bò"),
        ("phở", "pho"),
        ("Привет", "Привет"),
        ("α πΣ 5µm", "α πΣ 5µm"),
        ("Ελληνικά", "Ellinika"),
        ("宫 Café", "Gong Café"),
    ],
)
def test_what_the_printer_has_stays_and_words_are_not_written_in_two_scripts(text: str, expected: str) -> None:
    assert transliterate(text, NEEDLES) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ue000", "[U+E000]"),
        ("\U0010ffff", "[U+10FFFF]"),
        ("\ud800", "[U+D800]"),
        ("\U00012000", "[U+12000]"),
        ("\u0301x", "[U+0301]x"),
        ("a \u0301", "a [U+0301]"),
        ("🏽", "[U+1F3FD]"),
        ("\u2800", "[U+2800]"),
        ("\x85", "[U+0085]"),
    ],
)
def test_what_nobody_can_read_is_named_by_its_number(text: str, expected: str) -> None:
    assert transliterate(text, ASCII) == expected


def test_a_joiner_goes_with_its_letters() -> None:
    assert transliterate("می\u200cخواهم", ASCII) == transliterate("میخواهم", ASCII)


def test_an_accent_goes_with_its_letter() -> None:
    assert transliterate("q\u0303", ASCII) == "q"
    assert transliterate("e\u0301", NEEDLES) == "é"


@given(ORDER_TEXT, PRINTERS)
def test_only_characters_that_the_printer_has_come_out(text: str, encodable: Callable[[str], bool]) -> None:
    assert all(map(encodable, transliterate(text, encodable)))


@given(ORDER_TEXT, PRINTERS)
def test_no_control_character_and_no_line_end_comes_in(text: str, encodable: Callable[[str], bool]) -> None:
    clean = "".join(char for char in text if unicodedata.category(char) != "Cc" or not char.isascii())
    assert transliterate(clean, encodable).isprintable()


@given(ORDER_TEXT, PRINTERS)
def test_a_second_time_changes_nothing(text: str, encodable: Callable[[str], bool]) -> None:
    once = transliterate(text, encodable)
    assert transliterate(once, encodable) is once


@given(st.characters(exclude_categories=("M",)), PRINTERS)
def test_no_character_is_dropped(char: str, encodable: Callable[[str], bool]) -> None:
    assert transliterate(f"a{char}", encodable).removeprefix("a") or char in "🏻🏼🏽🏾🏿"


@given(ORDER_TEXT)
def test_ink_never_becomes_mere_blanks(text: str) -> None:
    for char in text:
        if unicodedata.category(char)[0] in "LNS":
            assert transliterate(char, ASCII).strip()


@given(st.text(st.characters(codec="ascii")))
def test_ascii_comes_back_as_it_was(text: str) -> None:
    assert transliterate(text, ASCII) is text


@given(st.lists(st.sampled_from("宫保鸡丁鱼肉汤饭面"), min_size=2, max_size=12))
def test_every_chinese_character_is_a_word(chars: list[str]) -> None:
    words = transliterate("".join(chars), ASCII).split(" ")
    assert len(words) == len(chars)
    assert all(re.fullmatch("[A-Z][a-z]*", word) for word in words)


def test_the_tables_are_not_loaded_for_printers_that_never_need_them() -> None:
    script = (
        "import sys; from kps.paper.transliteration import transliterate;"
        "transliterate('caf\\u00e9', lambda char: True); print('anyascii' in sys.modules);"
        "transliterate('\\u5bab', str.isascii); print('anyascii' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True"]
