"""A menu, and an endless sequence of orders that depends on its seed alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeVar

T = TypeVar("T")

NOWHERE: Final = ("", "none")
"""Station codes of dishes that need no kitchen, such as bottled water. They are on no ticket."""


class BillType(StrEnum):
    """How the guest gets the food, in the POS's words."""

    DINE_IN = "dine_in"
    TAKEAWAY = "takeaway"
    DELIVERY = "delivery"


class Priority(StrEnum):
    """How urgent the kitchen display shows an order."""

    NORMAL = "normal"
    RUSH = "rush"
    URGENT = "urgent"


@dataclass(frozen=True, slots=True)
class Modifier:
    """A change to a dish that the menu offers, with its price in rupiah."""

    name: str
    price: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Product:
    """A dish. `station` is where it is made, or one of NOWHERE."""

    name: str
    station: str
    price: Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """One dish on a bill. `void` = removed before it was sent, so it is on no ticket."""

    product: str
    quantity: int = 1
    station: str = "kitchen"
    modifiers: tuple[Modifier, ...] = ()
    notes: str = ""
    void: bool = False
    unit_price: Decimal = Decimal(25000)

    @property
    def is_made(self) -> bool:
        """Whether it is on a ticket."""
        return self.station not in NOWHERE and not self.void

    @property
    def modifier_price(self) -> Decimal:
        """Price of the modifiers of one piece."""
        return sum((modifier.price for modifier in self.modifiers), Decimal(0))

    @property
    def total(self) -> Decimal:
        """Price of the line."""
        return self.quantity * (self.unit_price + self.modifier_price)


@dataclass(frozen=True, slots=True)
class Order:
    """One bill, as the till knows it when it is sent. '' for brand or waiter = the first one of the shop."""

    lines: tuple[Line, ...]
    bill_type: BillType = BillType.DINE_IN
    table: str | None = None
    queue_number: int | None = None
    customer_name: str = ""
    guest_count: int = 1
    notes: str = ""
    priority: Priority = Priority.NORMAL
    waiter: str = ""
    brand: str = ""

    @property
    def stations(self) -> tuple[str, ...]:
        """The stations that get a ticket, in the order of their first dish."""
        return tuple(dict.fromkeys(line.station for line in self.lines if line.is_made))


TABLES: Final = ("1", "2", "3", "5", "8", "12A", "Teras 07", "VIP-1")
MENU: Final = (
    Product("Nasi Goreng Kampung", "kitchen", Decimal(32000)),
    Product("Ayam Geprek Sambal Ijo", "kitchen", Decimal(28000)),
    Product("Gado-Gado", "kitchen", Decimal(24000)),
    Product("Sate Ayam (10 tusuk, bumbu kacang, lontong) Porsi Keluarga", "kitchen", Decimal(78000)),
    Product("麻婆豆腐 Mapo Tofu", "kitchen", Decimal(45000)),
    Product("味噌ラーメン", "kitchen", Decimal(52000)),
    Product("비빔밥 Bibimbap", "kitchen", Decimal(49000)),
    Product("Es Teh Tawar", "bar", Decimal(6000)),
    Product("Es Jeruk Nipis", "bar", Decimal(14000)),
    Product("Kopi Tubruk", "bar", Decimal(12000)),
    Product("Café Glacé", "bar", Decimal(27000)),
    Product("Pisang Goreng Keju", "dessert", Decimal(19000)),
    Product("Crêpe Suzette", "dessert", Decimal(38000)),
    Product("Es Campur 🍧", "dessert", Decimal(22000)),
    Product("Kerupuk Udang", "none", Decimal(5000)),
    Product("Air Mineral", "", Decimal(7000)),
)
MODIFIERS: Final = {
    "kitchen": (Modifier("Level 3 – Pedas"), Modifier("Telur mata sapi", Decimal(6000)), Modifier("Tanpa bawang")),
    "bar": (Modifier("Less sugar"), Modifier("Tanpa es"), Modifier("Ukuran besar", Decimal(5000))),
    "dessert": (Modifier("Extra keju", Decimal(4500)), Modifier("Tanpa gula")),
}
LINE_NOTES: Final = (
    "pedas sedang",
    "jangan terlalu asin",
    "不要香菜",
    'untuk anak, "potong kecil"',
    "bungkus terpisah",
)
ALLERGY_NOTE: Final = "ALERGI KACANG!\nJangan pakai minyak kacang"
QR_NOTE: Final = "+ Level 3 – Pedas | + Telur mata sapi | kuah dipisah"
"""An order by QR code has no modifiers: they stand in the notes."""
BILL_NOTES: Final = ("Ulang tahun, tolong lilin", "Tamu buru-buru", "Antar bersamaan")
CUSTOMERS: Final = ("Bu Ratna", "Pak Joko", "José", "陳大文", "김민지", "Žofie", "สมชาย ใจดี", "ليلى حسن")


class OrderBook:
    """Orders without end; the n-th order of a seed is always the same."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._queue_number = 0

    def __iter__(self) -> Iterator[Order]:
        return self

    def __next__(self) -> Order:
        return self.next_order()

    def next_order(self) -> Order:
        """The next order."""
        bill_type = self._one_of((BillType.DINE_IN,) * 6 + (BillType.TAKEAWAY,) * 3 + (BillType.DELIVERY,))
        dines_in = bill_type is BillType.DINE_IN
        return Order(
            lines=self._lines(),
            bill_type=bill_type,
            table=self._one_of(TABLES) if dines_in else None,
            queue_number=self._next_queue_number() if bill_type is BillType.TAKEAWAY else None,
            customer_name="" if dines_in and self._now_and_then(0.7) else self._one_of(CUSTOMERS),
            guest_count=self._random.randint(1, 8) if dines_in else 1,
            notes=self._one_of(BILL_NOTES) if self._now_and_then(0.2) else "",
            priority=self._priority(),
        )

    def _lines(self) -> tuple[Line, ...]:
        count = self._random.choice((1, 2, 2, 3, 3, 4, 6))
        # A void line is never the only one: an order has at least one dish.
        struck = self._random.randrange(1, count) if count > 1 and self._now_and_then(0.08) else None
        first = self._line(
            self._one_of(tuple(product for product in MENU if product.station not in NOWHERE)), void=False
        )
        return (first, *(self._line(self._one_of(MENU), void=number == struck) for number in range(1, count)))

    def _line(self, product: Product, *, void: bool) -> Line:
        modifiers = MODIFIERS.get(product.station, ())
        chosen = self._random.sample(modifiers, self._random.choice((0, 0, 1, 2))) if modifiers else []
        return Line(
            product=product.name,
            quantity=self._random.choice((1, 1, 1, 2, 2, 3, 12)),
            station=product.station,
            modifiers=tuple(chosen),
            notes=self._notes(bool(chosen)),
            void=void,
            unit_price=product.price,
        )

    def _notes(self, has_modifiers: bool) -> str:
        if self._now_and_then(0.05):
            return ALLERGY_NOTE
        if not has_modifiers and self._now_and_then(0.1):
            return QR_NOTE
        return self._one_of(LINE_NOTES) if self._now_and_then(0.25) else ""

    def _priority(self) -> Priority:
        return self._one_of((Priority.NORMAL,) * 17 + (Priority.RUSH,) * 2 + (Priority.URGENT,))

    def _next_queue_number(self) -> int:
        self._queue_number += 1
        return self._queue_number

    def _now_and_then(self, chance: float) -> bool:
        return self._random.random() < chance

    def _one_of(self, choices: tuple[T, ...]) -> T:
        return self._random.choice(choices)
