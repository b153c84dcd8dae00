"""Text is harmless, lines fit, and nothing but white space is lost."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.text import MAX_MARKS, MIN_WIDTH, broken, clean, columns, substitute, without_loose_joiners, wrap

ANY_TEXT = st.text(st.characters(), max_size=200)
ORDER_TEXT = st.text(
    st.sampled_from("ab é \n\t\x00\x1b\x10\x04\x9b\u202e\u200b\u00ad少辣한글ก็\u0301😀[]+|\u200c\u200dبශ\u064b")
    | st.characters(),
    max_size=120,
)
WIDTHS = st.integers(MIN_WIDTH, 96)


def ink(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("  Nasi goreng ", "Nasi goreng"),
        ("a\x1b@\x1dV0b", "a@V0b"),
        ("\x10\x04\x01", ""),
        ("tab\there", "tab here"),
        ("two\nlines", "two lines"),
        ("CSI \x9b31m", "CSI 31m"),
        ("no\u00a0break\u3000wide", "no break wide"),
        ("abc\u202ecba\u2066x\u2069", "abccbax"),
        ("zero\u200bwidth\u200d\ufeff\u00ad", "zerowidth"),
        ("❤\ufe0f", "❤"),
        ("\u3164filler\u115f", "filler"),
        ("cafe\u0301", "caf\u00e9"),
        ("e\u200b\u0301", "\u00e9"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("宫保鸡丁", "宫保鸡丁"),
        ("ARABIC \u0600١", "ARABIC \u0600١"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("ශ්\u200dරී", "ශ්\u200dරී"),
        ("ර\u200d්ය", "ර\u200d්ය"),
        ("\u200cمی\u200c \u200cخوا\u200c", "می خوا"),
        ("م\u200d\u200dی", "می"),
        ("م\u200d\u202dی", "م\u200dی"),
        ("1\u200c2 👩\u200d🍳", "12 👩🍳"),
    ],
)
def test_clean_takes_out_what_a_device_could_obey_or_a_reader_cannot_see(dirty: str, expected: str) -> None:
    assert clean(dirty) == expected


@pytest.mark.parametrize("line_end", ["\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029"])
def test_every_kind_of_line_end_becomes_a_line_feed_where_asked_for(line_end: str) -> None:
    assert clean(f"a{line_end}b", newlines=True) == "a\nb"
    assert clean(f"a{line_end}b") == "a b"


def test_no_character_of_unicode_gets_a_control_or_invisible_character_through() -> None:
    harmful = []
    for code in range(sys.maxunicode + 1):
        for char in clean(chr(code)):
            visible_format = 0x600 <= code <= 0x605 or code in (0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD)
            if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or (
                unicodedata.category(char) == "Cf" and not visible_format
            ):
                harmful.append(hex(code))
    assert harmful == []


@given(ANY_TEXT | ORDER_TEXT, st.booleans())
def test_clean_text_stays_as_it_is_when_cleaned_again(text: str, newlines: bool) -> None:
    once = clean(text, newlines=newlines)
    assert clean(once, newlines=newlines) == once
    assert unicodedata.is_normalized("NFC", once)


MARKS = st.text(
    st.sampled_from("aeبක\u0301\u0323\u0344\u064b\u0651\u0ddf\u0dcf\u0dca\u200c\u200d"), min_size=10, max_size=60
)


@given(MARKS)
def test_no_letter_carries_more_marks_than_any_language_needs(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert unicodedata.is_normalized("NFC", once)
    heights = "".join(" " if columns(char) else "|" for char in once)
    assert "|" * (MAX_MARKS + 1) not in heights
    assert without_loose_joiners(once) == once


def test_marks_beyond_the_most_are_spelled_out_and_not_lost() -> None:
    assert clean("ก" + "\u0e48" * 10) == "ก" + "\u0e48" * 8 + "[U+0E48]" * 2
    # Taken one by one they are few; as one they would be sorted for half an hour.
    assert len(clean("a" + "\u0301\u0323" * 200_000)) > 3_000_000


def test_a_joiner_takes_no_column_and_no_line_ends_beside_it() -> None:
    assert columns("می\u200cخوا") == 5
    assert wrap("بب\u200cبب", 2) == ["ب", "ب\u200cب", "ب"]


def test_the_first_lines_of_an_endless_text_come_before_its_last_word_is_looked_at() -> None:
    lines = broken("x" * 10_000_000 + " y", 48)
    assert [next(lines) for _ in range(2)] == ["x" * 48] * 2


@given(ANY_TEXT | ORDER_TEXT)
def test_clean_text_holds_no_control_character(text: str) -> None:
    assert not [char for char in clean(text) if unicodedata.category(char) == "Cc"]
    assert {char for char in clean(text, newlines=True) if unicodedata.category(char) == "Cc"} <= {"\n"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("abc", 3), ("é", 1), ("少辣", 4), ("ｆ", 2), ("x\u0301", 1), ("ก็", 1), ("😀", 2), ("か\u3099", 2)],
)
def test_columns_counts_east_asian_wide_characters_twice_and_marks_not_at_all(text: str, expected: int) -> None:
    assert columns(text) == expected


@pytest.mark.parametrize(
    ("text", "width", "first", "indent", "expected"),
    [
        ("Nasi goreng spesial", 12, "2 x ", 4, ["2 x Nasi", "    goreng", "    spesial"]),
        ("a b", 3, "", 0, ["a b"]),
        ("abcdefgh", 3, "", 0, ["abc", "def", "gh"]),
        ("ab cdefgh", 4, "", 0, ["ab c", "defg", "h"]),
        ("宫保鸡丁", 5, "", 0, ["宫保", "鸡丁"]),
        ("one\ntwo\n\nthree", 20, "- ", 2, ["- one", "  two", "  three"]),
        ("  much   white\tspace ", 30, "", 0, ["much white space"]),
        ("soup", 6, "12 x ", 5, ["12 x s", "   oup"]),
        ("", 10, "2 x ", 4, []),
        (" \n ", 10, "Customer: ", 4, []),
        ("王王", 2, "", 5, ["王", "王"]),
    ],
)
def test_wrap_breaks_between_words_and_hangs_the_rest(
    text: str, width: int, first: str, indent: int, expected: list[str]
) -> None:
    assert wrap(text, width, first=first, indent=indent) == expected


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("कककका", 4, ["ककक", "का"]),
        ("กกกเก", 4, ["กกก", "เก"]),
        ("กกกกา", 4, ["กกก", "กา"]),
        ("宫保鸡丁，好", 8, ["宫保鸡", "丁，好"]),
        ("チャーハン", 2, ["チ", "ャ", "ー", "ハ", "ン"]),
        ("半チャーハン", 8, ["半チャー", "ハン"]),
        ("半半チャーハン", 6, ["半半", "チャー", "ハン"]),
        ("辣（少）", 6, ["辣", "（少）"]),
        ("x" + "\u0903" * 9, 4, ["x" + "\u0903" * 3, "\u0903" * 4, "\u0903" * 2]),
    ],
)
def test_a_word_too_long_for_a_line_is_cut_where_nothing_belongs_together(
    text: str, width: int, expected: list[str]
) -> None:
    assert wrap(text, width) == expected


def test_a_line_that_could_not_hold_every_character_is_refused() -> None:
    with pytest.raises(ValueError, match="2 columns"):
        wrap("x", 1)


@given(ORDER_TEXT, WIDTHS, st.sampled_from(["", "2 x ", "[ ] 12 x ", "Customer: "]), st.integers(0, 20))
def test_wrapped_lines_fit_and_keep_every_character(text: str, width: int, first: str, indent: int) -> None:
    kept = clean(text, newlines=True)
    lines = wrap(kept, width, first=first, indent=indent)
    assert all(columns(line) <= width for line in lines)
    assert ink("".join(lines)) == (ink(first + kept) if ink(kept) else "")


@given(st.text(st.sampled_from("abc 少"), max_size=80), st.integers(10, 40))
def test_a_word_that_fits_on_a_line_is_never_split(text: str, width: int) -> None:
    short_words = [word for word in text.split() if columns(word) <= width]
    if len(short_words) == len(text.split()):
        assert " ".join(wrap(text, width)).split() == short_words


def test_a_note_of_ten_thousand_characters_is_kept_whole() -> None:
    note = "辣" * 5000 + "x" * 5000
    assert "".join(wrap(note, 48)) == note


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain", "plain"), ("é少😀", "é[U+5C11][U+1F600]"), ("\u0301", "[U+0301]"), ("", "")],
)
def test_what_cannot_be_encoded_is_spelt_out(text: str, expected: str) -> None:
    assert substitute(text, lambda char: char == "é") == expected


@given(ANY_TEXT)
def test_after_substitution_every_character_is_encodable(text: str) -> None:
    assert substitute(text, lambda char: False).isascii()
