"""Text from outside, spelled so that nothing in it can command a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Küche 厨房 ครัว", "Küche 厨房 ครัว"),
        ("a\nb\x1b[2J", r"a\nb\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("one\u2028two\x85", r"one\u2028two\x85"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_could_obey_is_spelled(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_nothing_that_is_not_printable_is_left(text: str) -> None:
    assert printable(text).isprintable()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_stays_json_with_the_same_text(text: str) -> None:
    spelled = printable(json.dumps(text, ensure_ascii=False), json.dumps)

    assert spelled.isprintable()
    assert json.loads(spelled) == text
