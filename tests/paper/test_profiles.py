"""The profiles are sound data, and a printer finds the one that its owner means."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
import unicodedata
from pathlib import Path
from typing import Any

import pytest

import kps.paper.profiles
from kps.demo.virtual_printer.decoder import Decoder, Kind
from kps.demo.virtual_printer.settings import PROFILES as VIRTUAL_PRINTERS
from kps.paper.profiles import Profile, profile, profile_names, profile_of

DATA: dict[str, dict[str, Any]] = tomllib.loads(
    Path(kps.paper.profiles.__file__).with_name("profiles.toml").read_text(encoding="utf-8")
)
TEN = [
    "epson-tm-t20",
    "epson-tm-t82",
    "epson-tm-t88",
    "epson-tm-m30",
    "epson-tm-u220",
    "hprt",
    "xprinter",
    "rongta-rp32x",
    "star",
    "generic",
]
FACTS = {"pages", "kanji_off", "raster", "cell", "line_height", "beep", "escpos_profile"}
BOXES = "─│┌┐└┘"

every_profile = pytest.mark.parametrize("one", [profile(name) for name in profile_names()], ids=lambda one: one.name)


def pages(one: Profile) -> dict[str, int]:
    return {page.name: page.number for page in one.pages}


# -- the data --------------------------------------------------------------------------------------------------------


def test_the_ten_families_are_described() -> None:
    assert set(TEN) <= set(profile_names())


@pytest.mark.parametrize("name", DATA)
def test_a_table_has_every_fact_and_no_other_key(name: str) -> None:
    table = DATA[name]
    assert table.keys() >= FACTS
    assert table.keys() - FACTS <= {"brands", "models", "family"}
    assert "family" not in table or ("brands" not in table and "brands" in DATA[table["family"]])
    assert "family" not in table or table["models"], "nobody would find it"


@every_profile
def test_a_page_is_a_table_that_python_knows_and_agrees_with_ascii(one: Profile) -> None:
    ascii_bytes = bytes(range(0x20, 0x7F))
    for page in one.pages:
        assert ascii_bytes.decode(page.name) == ascii_bytes.decode("ascii")
        assert 0 <= page.number <= 255
        assert len(page.codes) > 90, "half of it is missing"
        for char, code in page.codes.items():
            assert char.encode(page.name) == bytes((code,))
            assert 0x80 <= code <= 0xFF


@every_profile
def test_no_page_stands_twice(one: Profile) -> None:
    assert len(pages(one)) == len(one.pages) == len(set(pages(one).values()))


@every_profile
def test_every_page_brings_letters_that_those_before_it_lack(one: Profile) -> None:
    known: set[str] = set()
    for page in one.pages:
        assert page.codes.keys() - known, page.name
        known |= page.codes.keys()


@every_profile
def test_no_page_has_what_a_printer_sets_wrongly(one: Profile) -> None:
    for char in {char for page in one.pages for char in page.codes}:
        assert unicodedata.bidirectional(char) not in ("R", "AL"), "a printer does not turn lines round"
        assert not unicodedata.combining(char), "a printer does not stack"
        assert not unicodedata.name(char).startswith("THAI"), "a printer does not stack"
        assert char.isprintable()


@every_profile
def test_boxes_stand_in_one_page_or_in_none(one: Profile) -> None:
    assert not one.pages or any(set(BOXES) <= page.codes.keys() for page in one.pages)


@every_profile
def test_its_commands_are_known_and_print_nothing(one: Profile) -> None:
    select = b"".join(bytes((0x1B, 0x74, page.number)) for page in one.pages)
    data = bytearray(b"\x1b@" + b"\x1c." * one.kanji_off + select + one.beep)
    decoder, kinds = Decoder(), []
    while data:
        step = decoder.next(data)
        assert step.consumed, f"cut short at {data.hex(' ')}"
        del data[: step.consumed]
        if step.command is not None:
            kinds.append(step.command.kind)
    assert decoder.idle, "it waits for more"
    assert not set(kinds) & {Kind.UNKNOWN, Kind.TEXT, Kind.REAL_TIME, Kind.PULSE, Kind.LINE_FEED}
    assert kinds.count(Kind.CODE_PAGE) == len(one.pages)


@every_profile
def test_a_beep_is_no_real_time_command_and_no_pulse_for_the_drawer(one: Profile) -> None:
    assert not any(bad in one.beep for bad in (b"\x10", b"\x1bp", b"\x07"))


@every_profile
def test_python_escpos_knows_the_profile_and_numbers_the_pages_alike(one: Profile) -> None:
    theirs = escpos_profiles()[one.escpos_profile]
    if one.escpos_profile in ("default", "simple"):
        return  # the union of all printers, or none: it says nothing of this one
    numbers = {number: codec.lower() for number, codec in theirs["codePages"].items()}
    for page in one.pages:
        assert numbers.get(str(page.number), page.name) == page.name


def escpos_profiles() -> dict[str, Any]:
    spec = importlib.util.find_spec("escpos")
    assert spec is not None
    assert spec.submodule_search_locations
    capabilities = Path(spec.submodule_search_locations[0], "capabilities.json").read_text(encoding="utf-8")
    profiles: dict[str, Any] = json.loads(capabilities)["profiles"]
    return profiles


def test_only_needle_printers_are_sent_no_pictures() -> None:
    without = {name for name in profile_names() if not profile(name).raster}
    assert without == {"epson-tm-u220", "epson-impact", "star-impact", "impact"}


def test_pages_that_clones_number_differently_are_left_to_pictures() -> None:
    assert pages(profile("generic")) == {"cp437": 0, "cp850": 2, "cp858": 19, "cp1252": 16, "cp852": 18}
    assert pages(profile("rongta")).keys() == pages(profile("generic")).keys()
    assert pages(profile("rongta-rp32x"))["cp866"] == 7
    assert pages(profile("epson"))["cp866"] == 17


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Café Zürich", ["generic", "epson-tm-u220", "star"]),
        ("Příliš žluťoučký kůň", ["generic", "hprt", "xprinter"]),
        ("Борщ", ["epson", "hprt", "xprinter", "rongta-rp32x", "star", "epson-tm-u220"]),
        ("Їжа", ["epson-tm-t20"]),
        ("Ελληνικά, ΐ", ["epson-tm-t20", "epson-tm-t88"]),
        ("İçli köfte, şiş, ağ", ["epson-tm-t20", "rongta-rp32x"]),
        ("Šaltibarščiai, ūkis, ķīselis", ["epson-tm-t20"]),
        ("5 €", ["generic", "epson-tm-m30"]),
    ],
)
def test_these_words_are_written_by_the_printer_itself(text: str, names: list[str]) -> None:
    for name in names:
        assert all(map(profile(name).encodable, text)), name


@pytest.mark.parametrize("text", ["宫", "ค", "م", "ש", "ị", "한", "か", "😀"])
def test_these_letters_are_in_no_page_of_any_printer(text: str) -> None:
    assert not any(profile(name).encodable(text) for name in profile_names())


def test_plain_has_ascii_and_nothing_else() -> None:
    assert profile("plain").encodable("~")
    assert not profile("plain").encodable("é")


# -- which profile ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("brand", "name"),
    [
        ("", "generic"),
        ("generic", "generic"),
        ("no such brand", "generic"),
        ("POS-80", "generic"),
        ("EPSON", "epson"),
        (" Epson ", "epson"),
        ("EpsonProfile", "epson"),
        ("EPOSN", "generic"),
        ("epsonix", "generic"),
        ("HRPT", "hprt"),
        ("HPRT", "hprt"),
        ("HRPT TP808", "hprt"),
        ("HRPTProfile", "hprt"),
        ("TP80K", "hprt"),
        ("XPRINTER", "xprinter"),
        ("x-printer", "xprinter"),
        ("XP-80C", "xprinter"),
        ("xprinter XP-N160II", "xprinter"),
        ("Rongta", "rongta"),
        ("rongta RP80", "rongta"),
        ("rongta rp326", "rongta-rp32x"),
        ("RP332", "rongta-rp32x"),
        ("STAR", "star"),
        ("Star Micronics", "star"),
        ("star micronics TSP654", "star"),
        ("TSP143IIILAN", "star"),
        ("star SP742", "star-impact"),
        ("Star Micronics SP742", "star-impact"),
        ("start", "generic"),
        ("impact", "impact"),
        ("plain", "plain"),
        ("epson tm-u220", "epson-tm-u220"),
        ("TM-U220", "epson-tm-u220"),
        ("TM-U220B", "epson-tm-u220"),
        ("epson_tm-u220", "epson-tm-u220"),
        ("Epson TM-U950", "epson-impact"),
        ("tm-t20iii", "epson-tm-t20"),
        ("TM-T20X-II", "epson-tm-t20"),
        ("EPSON TM-T82", "epson-tm-t82"),
        ("tm-t82x", "epson-tm-t82"),
        ("TM-T88", "epson-tm-t88-early"),
        ("TM-T88III", "epson-tm-t88-early"),
        ("TM-T88IV", "epson-tm-t88-early"),
        ("TM-T88V", "epson-tm-t88"),
        ("TM-T88VII", "epson-tm-t88"),
        ("TM-T88VI-iHUB", "epson-tm-t88"),
        ("epson TM-T20 II", "epson-tm-t20"),
        ("TM-T88X", "generic"),
        ("TM-m30II-H", "epson-tm-m30"),
        ("epson TM-T200", "epson"),
        ("epson TM-T70", "epson"),
    ],
)
def test_a_person_names_a_make_or_a_model(brand: str, name: str) -> None:
    assert profile_of(brand).name == name


@pytest.mark.parametrize(
    ("brand", "model", "name"),
    [
        ("EPSON", "EPSON TM-T20III", "epson-tm-t20"),
        ("EPSON", "TM-T20III", "epson-tm-t20"),
        ("epson", "EPSON TM-U220", "epson-tm-u220"),
        ("epson tm-u220", "EPSON TM-T20III", "epson-tm-t20"),
        ("epson tm-u220", "model 27", "epson-tm-u220"),
        ("EPSON", "model 63", "epson"),
        ("HRPT", "HPRT CAPD347", "hprt"),
        ("star", "STAR SP742", "star-impact"),
    ],
)
def test_the_printer_refines_its_make_by_its_model(brand: str, model: str, name: str) -> None:
    assert profile_of(brand, model).name == name


@pytest.mark.parametrize(
    ("brand", "model", "name"),
    [
        ("XPRINTER", "EPSON TM-T88V", "xprinter"),
        ("HRPT", "EPSON TM-T88V", "hprt"),
        ("rongta", "EPOSN TM-T88V", "rongta"),
        ("rongta RP326", "EPOSN TM-T88V", "rongta-rp32x"),
        ("EPSON", "EPOSN TM-T88V", "epson"),
        ("", "EPOSN TM-T88V", "generic"),
        ("generic", "EPOSN TM-T88V", "generic"),
        ("generic", "TM-T88V", "generic"),
        ("plain", "EPSON TM-T88V", "plain"),
        ("impact", "EPSON TM-T88V", "impact"),
    ],
)
def test_an_impostor_gains_nothing_by_its_name(brand: str, model: str, name: str) -> None:
    assert profile_of(brand, model).name == name


@pytest.mark.parametrize(
    ("brand", "model", "name"),
    [
        ("", "EPSON TM-T88V", "epson-tm-t88"),
        ("generic", "EPSON TM-U220", "epson-tm-u220"),
        ("acme", "EPSON", "epson"),
        ("acme", "HPRT TP808", "hprt"),
    ],
)
def test_a_maker_decides_where_the_person_names_none_that_is_known(brand: str, model: str, name: str) -> None:
    assert profile_of(brand, model).name == name


@pytest.mark.parametrize(
    ("virtual", "brand", "name"),
    [
        ("generic", "", "generic"),
        ("epson-t20iii", "EPSON", "epson-tm-t20"),
        ("epson-u220", "EPSON", "epson-tm-u220"),
        ("hprt-tp80k", "HRPT", "hprt"),
        ("xprinter-80", "XPRINTER", "xprinter"),
        ("impostor", "generic", "generic"),
        ("mute", "", "generic"),
    ],
)
def test_the_virtual_printers_are_taken_for_what_they_play(virtual: str, brand: str, name: str) -> None:
    settings = VIRTUAL_PRINTERS[virtual]
    told = " ".join(word for word in (settings.identity.maker, settings.identity.name) if word)
    found = profile_of(brand, told)
    assert found.name == name
    assert found.raster is settings.raster
    assert found.kanji_off or not settings.kanji_default


def test_a_profile_is_one_object_however_it_was_found() -> None:
    assert profile_of("EPSON") is profile_of(" epson ", "model 63") is profile("epson")
    assert len({profile_of("a"), profile_of("b")}) == 1


@pytest.mark.parametrize(
    "brand",
    [
        "TM-U220", "tm-u220", "TMU220", "TM U220", "TM_U220", "U220", "EPSON TM-U220", "EPSON-TM-U220", "epson_tm_u220",
        "Epson TM U220", "EPSON TM-U220A", "EPSON TM-U220B", "EPSON TM-U220D", "EPSON TM-U220II", "EPSON TM-U220IIB",
        "EPSON TM-U220BII", "EPSON TM-U220PA", "EPSON TM-U220PB", "EPSON TM-U220PD", "EPSON TM-U220B-WIFI", "TM-U230",
        "TM-U220 IIA",
    ],
)  # fmt: skip
def test_a_needle_printer_is_known_however_its_name_is_written(brand: str) -> None:
    """Taken for a thermal one it would print pictures as garbage."""
    assert profile_of(brand).name == "epson-tm-u220"
    assert profile_of("EPSON", brand).name == "epson-tm-u220"
    assert not profile_of(brand).raster


@pytest.mark.parametrize("brand", ["RP326", "RP32x", "RP-32X", "RP328-U", "RONGTA RP32x", "Rongta-RP326", "RP332-USE"])
def test_a_rongta_is_known_however_its_name_is_written(brand: str) -> None:
    assert profile_of(brand).name == "rongta-rp32x"


@pytest.mark.parametrize(
    ("brand", "name"), [("EPSON-TM-T88V", "epson-tm-t88"), ("star-tsp654", "star"), ("epson-", "generic")]
)
def test_make_and_model_may_be_one_word(brand: str, name: str) -> None:
    assert profile_of(brand).name == name


@pytest.mark.parametrize("text", ["\x00\x1b@", "(", "[a", "😀" * 500, "\ud800", "   ", "-"])
def test_any_text_finds_a_profile(text: str) -> None:
    assert profile_of(text, text).name == "generic"


def test_finding_a_profile_needs_neither_python_escpos_nor_pictures() -> None:
    script = (
        "import sys; from kps.paper.profiles import profile_of; profile_of('EPSON', 'EPSON TM-T20III');"
        "print([name for name in ('escpos', 'PIL', 'anyascii') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_guide_for_operators_lists_every_profile() -> None:
    guide = Path(__file__).parents[2].joinpath("docs/printers.md").read_text(encoding="utf-8")
    for name in profile_names():
        assert f"| `{name}` |" in guide
