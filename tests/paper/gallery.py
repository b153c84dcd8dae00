"""The papers of docs/paper.md, and what draws them anew: `python -m tests.paper.gallery`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from kps.core.document import Document, compose
from kps.core.slip_document import compose_slip
from kps.core.slips import (
    CatchUpSlip,
    ChangedItem,
    ChangeKind,
    ChangeSlip,
    ElsewhereTicket,
    OutageSlip,
    Slip,
    SlipContent,
    SlipId,
)
from kps.core.tickets import (
    Before,
    Chain,
    Item,
    Marks,
    PaperFormat,
    Priority,
    Reprint,
    Sibling,
    Template,
    Ticket,
    TicketId,
)
from kps.core.wording import PaperStyle
from kps.paper.language import translator
from kps.paper.layout import Sheet, lay_out
from kps.paper.preview import png_of, text_of

FOLDER = Path(__file__).parents[2] / "docs" / "paper"
PAGE = FOLDER.with_suffix(".md")
WIDE = PaperFormat(48, 80, "EPSON", "TM-T88VI")
NARROW = PaperFormat(32, 58, "generic")
IMPACT = PaperFormat(40, 76, "EPSON", "TM-U220")


def at(hour: int, minute: int) -> datetime:
    """A moment of the evening of the gallery, in store time."""
    return datetime(2026, 11, 23, hour - 7, minute, tzinfo=UTC)


def a_ticket(*items: Item, **fields: object) -> Ticket:
    plain = Ticket(
        id=TicketId(8117),
        station="kitchen",
        checker=False,
        created_at=at(19, 34),
        printed_now=at(19, 34),
        timezone="Asia/Jakarta",
        bill_number="B-20261123-0087",
        bill_type="dine_in",
        table="5",
        queue_number=None,
        customer_name="",
        guest_count=4,
        bill_notes="",
        waiter="Dewi",
        items=items,
        chain=Chain(42, Before(41, at(19, 31), "T12", "")),
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


DISHES = (
    Item(2, "Nasi Goreng Kampung", ("Telur mata sapi", "Pedas sedang")),
    Item(1, "Soto Ayam Lamongan", (), "tanpa bawang goreng"),
    Item(3, "Sate Ayam", ("10 tusuk", "Bumbu kacang dipisah")),
    Item(1, "Gado-Gado"),
)

ORDINARY = a_ticket(*DISHES, also_at=(Sibling("BAR", 4), Sibling("DESSERT", 1)))

HEADINGS = a_ticket(
    *DISHES[:2],
    printed_now=at(19, 47),
    marks=Marks(
        reprint=Reprint(at(19, 35), "KITCHEN-1"),
        possible_duplicate=True,
        check_printers=("KITCHEN-1",),
        backup_for="KITCHEN-1",
        backup_reason="paper_out",
        late_minutes=13,
        moved_from=("GRILL-1",),
    ),
    add_on=True,
    priority=Priority.URGENT,
    ready_by=at(19, 54),
    chain=Chain(42, Before(41, at(19, 31), "T12", "KITCHEN-1")),
)

CHECKER = a_ticket(
    Item(2, "Nasi Goreng Kampung", ("Pedas sedang",), station="kitchen"),
    Item(3, "Sate Ayam", station="grill"),
    Item(4, "Es Teh Manis", (), "1 tanpa gula", station="bar"),
    Item(1, "Pisang Goreng", station="dessert"),
    station="checker",
    checker=True,
    customer_name="Ibu Ratna",
    template=Template(header_lines=("WARUNG SEJAHTERA",), footer_lines=("Check every box before serving",)),
    chain=Chain(17, Before(16, at(19, 32), "T9", "")),
)

ALLERGY = a_ticket(
    Item(1, "Gado-Gado", ("Tanpa telur",), "alergi kacang! pakai wajan bersih"),
    Item(2, "Nasi Goreng Kampung"),
    table="9",
    bill_notes="Guest 2: shellfish allergy",
)

TEN_SCRIPTS = a_ticket(
    Item(2, "宫保鸡丁", ("少辣", "不要香菜")),
    Item(1, "天ぷらうどん 大盛り", (), "ネギ抜き"),
    Item(1, "김치찌개", ("덜 맵게",)),
    Item(3, "ผัดกะเพราหมูสับ", (), "ไม่ใส่น้ำตาล"),
    Item(2, "شاي بالنعناع 250ml", (), "بدون سكر"),
    Item(1, "Phở bò tái chín", ("Thêm giá đỗ",)),
    Item(1, "Svíčková na smetaně", ("bez knedlíků, děkuji",)),
    Item(2, "Μουσακάς", (), "χωρίς τυρί"),
    Item(1, "Борщ со сметаной", ("без чеснока",)),
    Item(4, "पनीर टिक्का मसाला", (), "कम मिर्च"),
    Item(1, "Birthday cake 🎂", ("🌶 no chili 🙏",)),
    table="21",
)

VOID = ChangeSlip(
    ChangeKind.VOID, "kitchen", "5", "", None, "dine_in", "B-20261123-0087",
    (ChangedItem(1, "Soto Ayam Lamongan", "guest changed his mind", 42, at(19, 34), "KITCHEN-1"),),
)  # fmt: skip
CANCELLED = ChangeSlip(
    ChangeKind.CANCELLED, "kitchen", "5", "", None, "dine_in", "B-20261123-0087",
    (
        ChangedItem(2, "Nasi Goreng Kampung", "", 42, at(19, 34), "KITCHEN-1"),
        ChangedItem(3, "Sate Ayam", "", 42, at(19, 34), "KITCHEN-1"),
        ChangedItem(1, "Pisang Goreng", "", 47, at(19, 50), "KITCHEN-2"),
    ),
)  # fmt: skip
MOVED = ChangeSlip(
    ChangeKind.MOVED, "kitchen", "5", "8", None, "dine_in", "B-20261123-0087",
    (
        ChangedItem(2, "Nasi Goreng Kampung", "", 42, at(19, 34), "KITCHEN-1"),
        ChangedItem(3, "Sate Ayam", "", 42, at(19, 34), "KITCHEN-1"),
    ),
)  # fmt: skip
OUTAGE = OutageSlip("KITCHEN-1", "paper_out", at(19, 40))
CATCH_UP = CatchUpSlip(
    "KITCHEN-1",
    at(19, 40),
    went_elsewhere=(
        ElsewhereTicket(8118, "kitchen", 43, "T12", "KITCHEN-2", at(19, 41)),
        ElsewhereTicket(8121, "kitchen", 44, "T3", "KITCHEN-2", at(19, 43)),
        ElsewhereTicket(8122, "grill", 19, "Q107", "BAR-1", at(19, 44)),
    ),
    maybe_twice=(ElsewhereTicket(8117, "kitchen", 42, "T5", "KITCHEN-2", at(19, 40)),),
    waiting=(ElsewhereTicket(8125, "kitchen", None, "T7", "", at(19, 46)),),
)


def a_slip(content: SlipContent) -> Slip:
    return Slip(SlipId(31), content, at(19, 47), "Asia/Jakarta")


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One picture: what is printed, on which paper, in which language."""

    subject: Ticket | Slip
    paper: PaperFormat = WIDE
    language: str = "en"

    def sheet(self) -> Sheet:
        return lay_out(self.document(), self.paper)

    def document(self) -> Document:
        style = PaperStyle(say=translator(self.language))
        if isinstance(self.subject, Slip):
            return compose_slip(self.subject, self.paper, style)
        return compose(self.subject, self.paper, style)


EXHIBITS: Mapping[str, Exhibit] = {
    "ordinary": Exhibit(ORDINARY),
    "ordinary-58mm": Exhibit(ORDINARY, NARROW),
    "indonesian": Exhibit(replace(ORDINARY, marks=Marks(late_minutes=9)), NARROW, "id"),
    "headings": Exhibit(HEADINGS),
    "checker": Exhibit(CHECKER),
    "allergy": Exhibit(ALLERGY),
    "ten-scripts": Exhibit(TEN_SCRIPTS),
    "ten-scripts-58mm": Exhibit(TEN_SCRIPTS, NARROW),
    "ten-scripts-impact": Exhibit(TEN_SCRIPTS, IMPACT),
    "void": Exhibit(a_slip(VOID)),
    "cancelled": Exhibit(a_slip(CANCELLED)),
    "table-changed": Exhibit(a_slip(MOVED)),
    "outage": Exhibit(a_slip(OUTAGE)),
    "catch-up": Exhibit(a_slip(CATCH_UP)),
}
"""Pictures by the name of their file."""


def main() -> None:
    """Draw all of them, and write the one in words."""
    FOLDER.mkdir(exist_ok=True)
    for name, exhibit in EXHIBITS.items():
        (FOLDER / f"{name}.png").write_bytes(png_of(exhibit.sheet()))
    before, _, rest = PAGE.read_text("utf-8").partition("```text\n")
    after = rest.partition("\n```")[2]
    PAGE.write_text(f"{before}```text\n{in_words()}\n```{after}", "utf-8")


def in_words() -> str:
    """The ticket that the page shows as text."""
    return text_of(EXHIBITS["ordinary-58mm"].sheet())


if __name__ == "__main__":
    main()
