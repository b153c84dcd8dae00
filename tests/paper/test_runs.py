"""Which parts of a line are drawn together, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.text import clean, columns
from kps.paper.runs import in_reading_order, runs


def shaped(text: str) -> list[str]:
    return [run.text for run in runs(text) if run.shaped]


@pytest.mark.parametrize(
    ("text", "together"),
    [
        ("2 x Soto", []),
        ("2 x 宫保鸡丁", []),
        ("2 x شاي بالنعناع 250ml", ["شاي بالنعناع"]),
        ("شاي 2 بالنعناع x", ["شاي 2 بالنعناع"]),
        ("شاي 3 (250)", ["شاي"]),
        ("חומוס, פיתה!", ["חומוס, פיתה"]),
        ("1 x ต้มยำกุ้ง น้ำข้น", ["ต้มยำกุ้ง น้ำข้น"]),
        ("पनीर  मसाला", ["पनीर", "मसाला"]),
        ("│ بدون بصل │", ["بدون بصل"]),
        ("שלום שاي ไทย", ["שלום שاي", "ไทย"]),
        ("بيتزا 1/2 + 1/2 ونصف x", ["بيتزا 1/2 + 1/2 ونصف"]),
        ("بدون بصل (حار) x", ["بدون بصل (حار)"]),
        ("שניצל (2 יח') x", ["שניצל (2 יח')"]),
        ("(שניצל) x", ["שניצל"]),
        ("می\u200cخواهم x", ["می\u200cخواهم"]),
        ("ශ්\u200dරී x", ["ශ්\u200dරී"]),
        ("شاي Tea شاي", ["شاي", "شاي"]),
    ],
)
def test_words_of_a_joining_script_are_drawn_together_and_others_letter_by_letter(
    text: str, together: list[str]
) -> None:
    assert shaped(text) == together


@pytest.mark.parametrize(
    ("text", "pieces"),
    [("Soto", list("Soto")), ("a\u0301b", ["a\u0301", "b"]), ("少 \u0301x", ["少", " \u0301", "x"])],
)
def test_a_mark_stays_with_its_letter(text: str, pieces: list[str]) -> None:
    assert [run.text for run in runs(text)] == pieces


@given(st.text(st.sampled_from("ab 少شاي שלום ก็क्षि│(1,") | st.characters(), max_size=60).map(clean))
def test_runs_are_the_whole_text_in_the_columns_that_it_was_wrapped_for(text: str) -> None:
    pieces = list(runs(text))
    assert "".join(run.text for run in pieces) == text
    assert sum(run.columns for run in pieces) == columns(text)
    assert all(run.text for run in pieces)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("שלום 1/2 שלום", ["1/2"]),
        ("שלום 2-3 שלום", ["2-3"]),
        ("בשעה 19:30 מוכן", ["19:30"]),
        ("שלום 50% או €5 או $ שלום", ["50%", "€5"]),
        ("שלום 1,234.50 שלום", ["1,234.50"]),
        ("שלום 1 - 2 שלום", ["1", "2"]),
        ("شاي 1/2 كوب", ["1/2"]),
        ("شاي ٣/٤ كوب", ["٣/٤"]),
        ("شاي 2-3 كوب", ["2", "3"]),
        ("شاي 50% كوب", ["50"]),
    ],
)
def test_what_is_one_number_among_letters_from_right_to_left_is_as_unicode_has_it(
    text: str, numbers: list[str]
) -> None:
    """UAX 9, rules W1 to W5; the same as FriBiDi shows."""
    parts = list(in_reading_order(text))
    assert "".join(part for part, _ in parts) == text
    assert [part for part, is_number in parts if is_number] == numbers
