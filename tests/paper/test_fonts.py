"""Fonts: those of the installation suffice, and a broken one is no more than a log line."""

from __future__ import annotations

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

from kps.paper import fonts
from kps.paper.fonts import FontLost, Fonts, fonts_in, has_ink, is_ideographic
from kps.paper.ink import _font, ink_of

MISSING = "\U0010abcd"
BROUGHT = {path.name: path for path in fonts._files(fonts._installed_folders())}
DEJAVU = BROUGHT["DejaVuSansMono.ttf"]
THAI = BROUGHT["NotoSansThai[wght].ttf"]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "font.ttf"


@given(data=st.data())
def test_a_damaged_font_draws_something_else_or_is_lost(damaged: Path, data: st.DataObject) -> None:
    """Nothing but `FontLost` comes out of it, and the process lives on."""
    font = bytearray(THAI.read_bytes()[: data.draw(st.just(None) | st.integers(0, 30_000))])
    for _ in range(data.draw(st.integers(0, 40)) if font else 0):
        font[data.draw(st.integers(0, min(len(font), 4000) - 1))] = data.draw(st.integers(0, 255))
    damaged.write_bytes(font)
    for opened in (fonts.open_face, _font, ink_of):
        opened.cache_clear()
    face = fonts.Face(str(damaged))
    for pixels in (24, 48):
        try:
            ink_of("น้ำข้น", face, pixels, right_to_left=False)
        except FontLost:
            pass


def test_broken_files_are_skipped_with_one_log_line_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "text.ttf").write_text("not a font")
    (tmp_path / "torn.otf").write_bytes(DEJAVU.read_bytes()[:1000])
    (tmp_path / "gone.ttf").symlink_to(tmp_path / "nowhere")
    with caplog.at_level(logging.INFO, "kps.paper.fonts"):
        found = Fonts(tuple(sorted(tmp_path.iterdir())))
        assert found.count == 3
        assert found.face_for("C") is None
        assert found.face_for(MISSING) is None
    skipped = [record.file for record in caplog.records if record.getMessage() == "font skipped"]  # type: ignore[attr-defined]
    assert sorted(Path(path).name for path in skipped) == ["gone.ttf", "text.ttf", "torn.otf"]


def test_a_character_that_no_font_has_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    found = Fonts()
    with caplog.at_level(logging.INFO, "kps.paper.fonts"):
        assert [found.face_for(MISSING) for _ in range(3)] == [None, None, None]
    (record,) = [record for record in caplog.records if record.getMessage() == "character without glyph"]
    assert record.character == "U+10ABCD"  # type: ignore[attr-defined]


def test_without_any_font_nothing_is_drawn_and_the_log_says_so_once(
    no_fonts: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "kps.paper.fonts"):
        found = fonts_in(())
        assert found.count == 0
        assert found.face_for("A") is None
        assert fonts_in(()) is found
    assert [record.getMessage() for record in caplog.records if "found" in record.getMessage()] == ["no fonts found"]


@pytest.mark.parametrize(
    "text",
    [
        "宫保鸡丁 少辣 龍鬚菜 嘢", "天ぷらうどん 餃子 ﾈｷﾞ", "김치찌개", "ผัดกะเพราหมูสับ", "ລາບ", "ម្ហូប", "မုန့်ဟင်းခါး",
        "شاي بالنعناع", "چای نعنا", "חומוס", "पनीर टिक्का", "বিরিয়ানি", "ਮੱਖਣ", "ઢોકળા", "ଡାଲମା", "தோசை", "పులిహోర",
        "ಬಿಸಿ", "ദോശ", "කොත්තු", "ዶሮ", "ხაჭაპური", "Խորոված", "Phở bò tái", "Μουσακάς", "Борщ", "Žluťoučký", "🎂🌶🙏🫔",
        "✓ ★ ☎ → ½ ℃ ♥",
    ],
)  # fmt: skip
def test_the_installation_alone_draws_what_menus_are_written_in(bare_machine: None, text: str) -> None:
    assert [char for char in text if fonts_in(()).face_for(char) is None] == []


def test_what_no_font_draws_is_known_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bare_machine: None
) -> None:
    assert fonts.undrawable(()) == ()
    monkeypatch.setattr(fonts, "_PACKAGES", ("manimgx_fonts", "a_package_that_nobody_has_installed"))
    assert fonts.undrawable(()) == ("Chinese", "Japanese", "Korean")
    fonts.fonts_in.cache_clear()
    (tmp_path / "mine.ttc").symlink_to(BROUGHT["NotoSansCJK-Regular.ttc"])
    assert fonts.undrawable((str(tmp_path),)) == ()


def test_of_the_fonts_for_chinese_japanese_and_korean_the_one_with_chinas_shapes_draws(bare_machine: None) -> None:
    face = fonts_in(()).face_for("直")
    assert face is not None
    assert fonts.open_face(face).face.get_name(1) == "Noto Sans CJK SC"


def test_what_the_installation_brings_comes_before_the_systems_fonts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_fonts: None
) -> None:
    shutil.copy(DEJAVU, tmp_path / "DejaVuSansMono.ttf")
    monkeypatch.setattr(fonts, "_SYSTEM", (str(tmp_path),))
    face = fonts_in(()).face_for("ж")
    assert face is not None
    assert Path(face.path) == DEJAVU


def test_a_font_whose_weight_varies_is_drawn_with_its_regular_one(tmp_path: Path) -> None:
    """Google's Chinese, Japanese and Korean ones begin at a hair's breadth."""
    bold = fvar_moved(THAI.read_bytes(), 300)
    (tmp_path / "moved.ttf").write_bytes(bold)
    plain, moved = (
        ink_of("ก", fonts.Face(str(path)), 96, right_to_left=False) for path in (THAI, tmp_path / "moved.ttf")
    )
    assert sum(moved.dots) > 1.05 * sum(plain.dots)


def fvar_moved(font: bytes, start: int) -> bytes:
    """The font, which then says that its lightest and default weight is `start`: what it draws at 400 is heavier."""
    at = font.index(b"wght", font.index(b"fvar"))
    while font[at : at + 4] != b"wght" or struct.unpack(">ii", font[at + 4 : at + 12]) != (400 << 16, 400 << 16):
        at = font.index(b"wght", at + 4)
    return font[: at + 4] + struct.pack(">ii", start << 16, start << 16) + font[at + 12 :]


def test_a_font_of_coloured_pictures_has_no_ink(tmp_path: Path) -> None:
    """Its characters may be there, its outlines are not."""
    empty = bytearray(DEJAVU.read_bytes())
    at = empty.index(b"glyf")
    empty[at : at + 4] = b"CBDT"
    (tmp_path / "coloured.ttf").write_bytes(bytes(empty))
    assert has_ink(fonts.Face(str(DEJAVU)), "A")
    assert not has_ink(fonts.Face(str(tmp_path / "coloured.ttf")), "A")


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
        shutil.copy(DEJAVU, tmp_path / name)
    assert Fonts(tuple(tmp_path.iterdir()), ()).count == 0


def test_no_font_draws_what_has_no_ink() -> None:
    assert fonts_in(()).face_for("\u2003") is None


@pytest.mark.parametrize(("char", "expected"), [("少", True), ("ラ", True), ("한", True), ("、", True), ("A", False)])
def test_chinese_japanese_and_korean_are_known_by_name(char: str, expected: bool) -> None:
    assert is_ideographic(char) is expected


IN_A_FRESH_PROCESS = """
import sys
import kps.paper.layout, kps.paper.escpos
assert not {"PIL", "uharfbuzz"} & set(sys.modules), "what draws was imported before the first ticket"
kps.paper.escpos.warm_up()
from kps.paper.fonts import fonts_in, open_face
assert "uharfbuzz" not in sys.modules
assert fonts_in.cache_info().currsize == 0, "fonts were searched for a native ticket"
assert open_face.cache_info().currsize == 0
"""


def test_a_native_ticket_searches_and_opens_no_font() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
