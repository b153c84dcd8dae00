"""Fonts: what a file covers is read from the file alone, and a broken one is no more than a log line."""

from __future__ import annotations

import io
import logging
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from kps.paper.cmap import BadFont, read_coverage
from kps.paper.fonts import Fonts, fonts_in, is_ideographic

MISSING = "\U0010abcd"
DEJAVU = Path("/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf")
needs_dejavu = pytest.mark.skipif(not DEJAVU.exists(), reason="no DejaVu Sans Mono on this machine")


def a_font(*subtables: tuple[int, int, bytes], start: int = 0) -> bytes:
    """A file of nothing but a cmap with (platform, encoding, subtable)."""
    records, body, offset = b"", b"", 4 + 8 * len(subtables)
    for platform, encoding, subtable in subtables:
        records += struct.pack(">HHI", platform, encoding, offset + len(body))
        body += subtable
    cmap = struct.pack(">HH", 0, len(subtables)) + records + body
    directory = struct.pack(">4sHHHH4sIII", b"\0\1\0\0", 1, 0, 0, 0, b"cmap", 0, start + 28, len(cmap))
    return directory + cmap


def format_4(*segments: tuple[int, int, int, list[int]]) -> bytes:
    """Segments of (first, last, delta, glyphs); no glyphs = glyph is code + delta."""
    count = len(segments)
    ends = b"".join(struct.pack(">H", last) for _, last, _, _ in segments)
    starts = b"".join(struct.pack(">H", first) for first, _, _, _ in segments)
    deltas = b"".join(struct.pack(">H", delta & 0xFFFF) for _, _, delta, _ in segments)
    distances, glyphs = b"", b""
    for index, (_, _, _, listed) in enumerate(segments):
        distances += struct.pack(">H", 2 * (count - index) + len(glyphs) if listed else 0)
        glyphs += struct.pack(f">{len(listed)}H", *listed)
    body = struct.pack(">HHHH", 2 * count, 0, 0, 0) + ends + b"\0\0" + starts + deltas + distances + glyphs
    return struct.pack(">HHH", 4, 6 + len(body), 0) + body


def format_12(*groups: tuple[int, int, int]) -> bytes:
    body = b"".join(struct.pack(">III", *group) for group in groups)
    return struct.pack(">HHIII", 12, 0, 16 + len(body), 0, len(groups)) + body


def covered(font: bytes, *codes: int) -> list[bool]:
    coverage = read_coverage(io.BytesIO(font))
    return [code in coverage for code in codes]


def test_a_segment_by_delta_covers_its_codes_but_the_one_that_leads_to_glyph_0() -> None:
    font = a_font((3, 1, format_4((0x41, 0x45, -0x43, []), (0xFFFF, 0xFFFF, 1, []))))
    assert covered(font, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46) == [False, True, True, False, True, True, False]
    assert covered(font, 0xFFFF) == [False]


def test_a_segment_by_list_covers_the_codes_with_a_glyph() -> None:
    font = a_font((3, 1, format_4((0x41, 0x43, 0, [7, 0, 9]), (0x50, 0x52, -3, [0, 3, 4]), (0xFFFF, 0xFFFF, 1, []))))
    assert covered(font, 0x41, 0x42, 0x43, 0x50, 0x51, 0x52) == [True, False, True, False, False, True]


def test_the_closing_segment_may_hold_nonsense_as_it_does_in_some_fonts() -> None:
    table = format_4((0x41, 0x41, 1, []), (0xFFFF, 0xFFFF, 1, []))
    assert covered(a_font((3, 1, table[:-2] + b"\xff\xff")), 0x41, 0xFFFF) == [True, False]


def test_a_table_of_full_unicode_is_preferred_to_one_of_the_basic_plane() -> None:
    font = a_font((3, 1, format_4((0x41, 0x41, 0, []))), (3, 10, format_12((0x42, 0x43, 0), (0x1F35C, 0x1F35D, 9))))
    assert covered(font, 0x41, 0x42, 0x43, 0x1F35C, 0x1F35D, 0x1F35E) == [False, False, True, True, True, False]


def test_of_a_collection_the_first_font_counts() -> None:
    font = b"ttcf" + struct.pack(">III", 0x10000, 1, 16) + a_font((3, 1, format_4((0x41, 0x41, 1, []))), start=16)
    assert covered(font, 0x41, 0x42) == [True, False]


@pytest.mark.parametrize(
    "font",
    [
        b"",
        b"\0\1\0\0",
        b"no font at all, only text",
        a_font(),
        a_font((1, 0, format_4((0x41, 0x41, 0, [])))),
        a_font((3, 1, format_4((0x41, 0x41, 0, []))))[:-9],
        a_font((3, 1, struct.pack(">HHH", 6, 10, 0))),
    ],
)
def test_what_is_no_readable_font_says_so(font: bytes) -> None:
    with pytest.raises(BadFont):
        read_coverage(io.BytesIO(font))


WHOLE = a_font((3, 1, format_4((0x41, 0x43, 0, [7, 0, 9]))), (3, 10, format_12((0x42, 0x43, 0))))


@given(st.binary(max_size=300) | st.integers(0, len(WHOLE)).map(lambda end: WHOLE[:end]))
def test_no_bytes_whatever_do_more_harm_than_that(font: bytes) -> None:
    try:
        read_coverage(io.BytesIO(font))
    except BadFont:
        pass


@given(at=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255))
def test_nor_does_a_font_with_one_wrong_byte(at: int, value: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[at] = value
    try:
        read_coverage(io.BytesIO(bytes(damaged)))
    except BadFont:
        pass


@needs_dejavu
def test_what_a_real_font_covers_is_what_freetype_draws_otherwise_than_its_box() -> None:
    with DEJAVU.open("rb") as file:
        coverage = read_coverage(file)
    # With the shaper, a letter that is lacking may be put together from others.
    font = ImageFont.truetype(DEJAVU, 24, layout_engine=ImageFont.Layout.BASIC)
    box = bytes(font.getmask(MISSING))
    for code in [*range(0x21, 0x7F), *range(0xA1, 0x250), *range(0x370, 0x530), *range(0x1E00, 0x1F00)]:
        if code != 0xAD:
            assert (code in coverage) is (bytes(font.getmask(chr(code))) != box), hex(code)


def test_broken_files_are_skipped_with_one_log_line_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "text.ttf").write_text("not a font")
    (tmp_path / "torn.otf").write_bytes(WHOLE)  # A cmap, and nothing to draw with.
    (tmp_path / "gone.ttf").symlink_to(tmp_path / "nowhere")
    with caplog.at_level(logging.INFO, "kps.paper.fonts"):
        fonts = Fonts(tuple(sorted(tmp_path.iterdir())), ())
        assert fonts.count == 3
        assert fonts.face_for("C") == fonts.face_for("D")
        assert fonts.face_for(MISSING) is None
    skipped = [record.file for record in caplog.records if record.getMessage() == "font skipped"]  # type: ignore[attr-defined]
    assert sorted(Path(path).name for path in skipped) == ["gone.ttf", "text.ttf", "torn.otf"]


def test_a_character_that_no_font_has_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    fonts = Fonts((), ())
    with caplog.at_level(logging.INFO, "kps.paper.fonts"):
        assert [fonts.face_for(MISSING) for _ in range(3)] == [None, None, None]
    (record,) = [record for record in caplog.records if record.getMessage() == "character without glyph"]
    assert record.character == "U+10ABCD"  # type: ignore[attr-defined]


def test_without_any_font_pillows_own_still_draws_latin(no_fonts: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "kps.paper.fonts"):
        fonts = fonts_in(())
        assert fonts.count == 0
        assert fonts.face_for("A") is not None
        assert fonts.face_for("少") is None
        assert fonts_in(()) is fonts
    assert [record.getMessage() for record in caplog.records if "found" in record.getMessage()] == ["no fonts found"]


@needs_dejavu
def test_the_operators_folder_comes_before_the_systems(tmp_path: Path, fresh_fonts: None) -> None:
    mine = tmp_path / "deep" / "deeper" / "Mine.TTF"
    mine.parent.mkdir(parents=True)
    shutil.copy(DEJAVU, mine)
    (tmp_path / "README.txt").write_text("no font")
    own, system = fonts_in((str(tmp_path),)).face_for("ж"), fonts_in(()).face_for("ж")
    assert own is not None
    assert system is not None
    assert Path(own.path) == mine
    assert Path(system.path).name.startswith("DejaVuSansMono")


def test_folders_that_are_not_there_or_lead_in_a_circle_do_no_harm(tmp_path: Path, no_fonts: None) -> None:
    (tmp_path / "circle").symlink_to(tmp_path)
    assert fonts_in((str(tmp_path), str(tmp_path / "missing"), "")).count == 0


def test_what_has_the_name_of_a_font_and_is_no_file_is_none(tmp_path: Path, no_fonts: None) -> None:
    """A pipe would keep whoever opens it for ever."""
    os.mkfifo(tmp_path / "pipe.ttf")
    (tmp_path / "folder.otf").mkdir()
    (tmp_path / "nowhere.ttf").symlink_to(tmp_path / "missing")
    assert fonts_in((str(tmp_path),)).count == 0


def test_a_font_that_holds_only_boxes_or_nothing_is_never_chosen(tmp_path: Path) -> None:
    for name in ("LastResort.ttf", "AdobeBlank.otf"):
        (tmp_path / name).write_bytes(WHOLE)
    assert Fonts(tuple(tmp_path.iterdir()), ()).count == 0


def test_no_font_draws_what_has_no_ink() -> None:
    assert fonts_in(()).face_for("\u2003") is None


@pytest.mark.parametrize(("char", "expected"), [("少", True), ("ラ", True), ("한", True), ("、", True), ("A", False)])
def test_chinese_japanese_and_korean_are_known_by_name(char: str, expected: bool) -> None:
    assert is_ideographic(char) is expected


IN_A_FRESH_PROCESS = """
import sys
import kps.paper.layout, kps.paper.escpos
assert "PIL" not in sys.modules, "Pillow was imported before the first ticket"
kps.paper.escpos.warm_up()
from kps.paper.fonts import fonts_in, open_face
assert fonts_in.cache_info().currsize == 0, "fonts were searched for a native ticket"
assert open_face.cache_info().currsize == 0
"""


def test_a_native_ticket_searches_and_opens_no_font() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
