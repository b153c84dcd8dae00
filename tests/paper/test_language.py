"""Every word of ours is in every catalogue, and a faulty catalogue never costs a ticket."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest

import kps.core
from kps import config
from kps.core.wording import PaperStyle, Wording, fields_of
from kps.paper.language import FOLDER, UnknownLanguage, languages, translator

CORE = Path(kps.core.__file__).parent
CATALOGUES = sorted(FOLDER.glob("*.po"))


def calls_of_say() -> Iterator[tuple[str, ast.Call]]:
    """Each `...say(...)` in the core, but for the one that hands the message on to the catalogue."""
    for file in sorted(CORE.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name.lstrip("_") == "say" and ast.unparse(node.func) != "self.style.say":
                yield f"{file.name}:{node.lineno}", node


def messages() -> dict[str, str]:
    """Our own words with the place of one use of each; they must be literals, or nobody could list them."""
    found = {}
    for place, call in calls_of_say():
        message = call.args[0]
        assert isinstance(message, ast.Constant), f"{place}: not a literal"
        found[str(message.value)] = place
    return found


def catalogue(folder: Path, language: str, **translations: str) -> None:
    po = polib.POFile()
    po.metadata = {"Language": language, "Content-Type": "text/plain; charset=UTF-8"}
    for message, translation in translations.items():
        po.append(polib.POEntry(msgid=message, msgstr=translation))
    po.save(str(folder / f"{language}.po"))


def test_each_message_is_called_with_its_fields_and_no_other() -> None:
    for place, call in calls_of_say():
        (message,) = call.args
        assert isinstance(message, ast.Constant), place
        assert {keyword.arg for keyword in call.keywords} == fields_of(str(message.value)), place


@pytest.mark.parametrize("file", CATALOGUES, ids=lambda file: file.stem)
def test_a_catalogue_has_exactly_our_words_all_translated(file: Path) -> None:
    entries = list(polib.pofile(str(file)))
    assert {entry.msgid for entry in entries} == messages().keys()
    assert len({entry.msgid for entry in entries}) == len(entries)
    assert [entry.msgid for entry in entries if not entry.translated() or entry.obsolete] == []


@pytest.mark.parametrize("file", CATALOGUES, ids=lambda file: file.stem)
def test_a_translation_has_the_fields_of_its_message(file: Path) -> None:
    for entry in polib.pofile(str(file)):
        assert fields_of(entry.msgstr) == fields_of(entry.msgid), entry.msgid


@pytest.mark.parametrize("file", CATALOGUES, ids=lambda file: file.stem)
def test_a_translation_is_upper_case_where_the_message_is_and_fits_on_narrow_paper(file: Path) -> None:
    for entry in polib.pofile(str(file)):
        bare, translated = entry.msgid, entry.msgstr
        for field in fields_of(entry.msgid):
            bare, translated = bare.replace(f"{{{field}}}", ""), translated.replace(f"{{{field}}}", "")
        if bare.isupper():
            assert translated.isupper(), entry.msgid
            assert max(map(len, translated.split())) <= 14, "a word of it is torn in a double bar on 58 mm"


def test_the_kitchen_reads_indonesian() -> None:
    assert languages() == ("en", "id")
    assert languages() == config.languages(), "the settings admit what the paper speaks"
    assert translator("id")("TABLE {table}") == "MEJA {table}"
    assert translator(" ID ")("DINE IN") == "MAKAN DI TEMPAT"


def test_english_needs_no_catalogue() -> None:
    assert translator("en")("TABLE {table}") == "TABLE {table}"


def test_a_message_that_a_catalogue_lacks_stays_english() -> None:
    assert translator("id")("SOMETHING NEW") == "SOMETHING NEW"


def test_one_more_language_is_one_file(tmp_path: Path) -> None:
    catalogue(tmp_path, "de", RUSH="EILIG")
    assert languages(tmp_path) == ("de", "en")
    assert translator("de", tmp_path)("RUSH") == "EILIG"
    assert translator("de", tmp_path)("URGENT") == "URGENT"


def test_an_unknown_language_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownLanguage, match=r"^unknown language 'xx'; known are en, id$") as raised:
        translator("xx")
    assert raised.value.known == ("en", "id")


@pytest.mark.parametrize("name", ["", "..", "../languages/id", "id.po"])
def test_a_path_is_no_language(name: str) -> None:
    with pytest.raises(UnknownLanguage):
        translator(name)


@pytest.mark.parametrize(
    "faulty",
    [
        "SPÄT",
        "SPÄT {minuten} MIN",
        "SPÄT {minutes} {more}",
        "SPÄT {minutes",
        "SPÄT {0}",
        "{minutes.real}",
        "{minutes!r}",
    ],
)
def test_a_faulty_translation_is_passed_over(faulty: str, tmp_path: Path) -> None:
    catalogue(tmp_path, "de", **{"LATE {minutes} MIN": faulty})
    wording = Wording(PaperStyle(translator("de", tmp_path)), "UTC")
    assert wording.say("LATE {minutes} MIN", minutes=7) == "LATE 7 MIN"


def test_data_is_never_taken_for_a_message() -> None:
    assert (
        Wording(PaperStyle(translator("id")), "UTC").say("TABLE {table}", table="{table} RUSH") == "MEJA {table} RUSH"
    )
