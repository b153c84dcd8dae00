"""Numbers of a sequence as texts of four characters, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.process_ids import IDS, ProcessIds, process_id_text, process_id_value
from kps.core.status import ProcessIdEcho, ReplyReader


@given(st.integers(0, 2**62))
def test_a_process_id_is_four_printable_bytes_and_never_the_constant_of_clones(number: int) -> None:
    text = process_id_text(number)

    assert len(text) == 4
    assert all(0x20 <= byte <= 0x7E for byte in text)
    assert text != b"1234"
    assert process_id_value(text) == number % (IDS - 1)
    assert text != process_id_text(number + 1)
    assert ReplyReader().feed(b"\x37\x22" + text + b"\x00") == [ProcessIdEcho(text)]


def test_numbers_side_by_side_have_texts_far_apart() -> None:
    first, second = process_id_text(1000), process_id_text(1001)

    assert sum(one != other for one, other in zip(first, second, strict=True)) >= 3


def test_all_texts_around_the_constant_of_clones_have_a_number_of_their_own() -> None:
    around = [b"1233", b"1235", b"1236"]

    assert [process_id_text(process_id_value(text)) for text in around] == around
    for text in (b"1234", b"\x1f   ", b"\x7f\x7f\x7f\x7f"):
        with pytest.raises(ValueError):
            process_id_value(text)


def test_the_ids_of_one_try_differ() -> None:
    ids = ProcessIds(7)

    assert len({ids.ticket, ids.again, ids.after, ProcessIds(11).ticket}) == 4
