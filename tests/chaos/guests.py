"""What guests and waiters change after the order: voids, cancelled bills, other tables, merges, splits, payment."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, assert_never

from kps.demo.orders import PosWriter
from tests.chaos.paper import FURTHER

SHARE: Final = 0.08
"""Share of orders after which a change is made to some order."""
KEPT: Final = 3000
"""So many of the latest orders may be changed."""


class Change(StrEnum):
    """A change of an order. No order is changed twice: a change that is undone between two looks of KPS is not seen."""

    VOID = "item voided"
    VOID_AT_ONCE = "item voided at once"
    """Mostly before it is printed, sometimes while it is printed."""
    CANCEL = "bill cancelled"
    MOVE = "table changed"
    MOVE_AT_ONCE = "table changed at once"
    MERGE = "bills merged"
    MERGE_AND_VOID = "bills merged, then item voided"
    MERGE_AND_CANCEL = "bills merged, then cancelled"
    SPLIT = "bill split"
    SPLIT_AND_VOID = "bill split, then what is left of an item voided"
    PAY = "bill paid"
    PAY_AND_VOID = "bill paid, then item voided"


AT_ONCE: Final = frozenset({Change.VOID_AT_ONCE, Change.MOVE_AT_ONCE})
MERGES: Final = frozenset({Change.MERGE, Change.MERGE_AND_VOID, Change.MERGE_AND_CANCEL})
SEATED: Final = frozenset({Change.MOVE, Change.MOVE_AT_ONCE})


@dataclass(frozen=True, slots=True)
class Placed:
    """An order that the till has written."""

    ticket: int
    queue: int
    seated: bool
    items: int


class Guests:
    """Makes changes, chosen by `chance`; which are possible depends on what has been printed by then."""

    def __init__(self, pos: PosWriter, chance: random.Random, share: float = SHARE) -> None:
        self._pos = pos
        self._share = share
        self._chance = chance
        self._orders: deque[Placed] = deque(maxlen=KEPT)

    def after(self, order: Placed) -> None:
        """After an order: change some order, or none. Raises psycopg2.Error: then the change may be made or not."""
        self._orders.append(order)
        if self._chance.random() < self._share:
            self._change(self._chance.choice(list(Change)), order)

    def _change(self, whim: Change, newest: Placed) -> None:
        chosen = [newest] if whim in AT_ONCE else self._printed(2 if whim in MERGES else 1, whim)
        chosen = [order for order in chosen if order.seated or whim not in SEATED]
        if len(chosen) < (2 if whim in MERGES else 1) or (whim is Change.VOID_AT_ONCE and newest.items < 2):
            return
        for order in chosen:
            self._orders.remove(order)
        self.carry_out(whim, *chosen)

    def _printed(self, count: int, whim: Change) -> list[Placed]:
        """So many orders that are on paper and were not changed yet."""
        few = {order.ticket: order for order in self._orders if order.seated or whim not in SEATED}
        rows = self._pos.rows(_PRINTED, [list(few)])
        return self._chance.sample([few[row["id"]] for row in rows], min(count, len(rows)))

    def carry_out(self, whim: Change, order: Placed, *others: Placed) -> None:
        """Change an order; a merge wants two, and the second one's bill remains. Raises psycopg2.Error."""
        items = [self._pos.rows(_ITEM, [ticket.ticket]) for ticket in (order, *others)]
        bill = items[0][0]["bill_id"]
        match whim:
            case Change.VOID | Change.VOID_AT_ONCE:
                self._void_one(items[0])
            case Change.CANCEL:
                self._pos.close_bill(bill, "cancelled")
            case Change.MOVE | Change.MOVE_AT_ONCE:
                self._pos.move_table(bill, str(order.queue + FURTHER))
            case Change.MERGE | Change.MERGE_AND_VOID | Change.MERGE_AND_CANCEL:
                into = items[1][0]["bill_id"]
                self._pos.merge_bills(bill, into)
                if whim is Change.MERGE_AND_VOID:
                    self._void_one(items[0])
                elif whim is Change.MERGE_AND_CANCEL:
                    self._pos.close_bill(into, "cancelled")
            case Change.SPLIT | Change.SPLIT_AND_VOID:
                for item in items[0]:
                    if item["quantity"] > 1:
                        self._pos.split_item(item["id"], 1)
                if whim is Change.SPLIT_AND_VOID:
                    self._void_one(items[0])
            case Change.PAY:
                self._pos.close_bill(bill, "paid")
            case Change.PAY_AND_VOID:
                self._pos.close_bill(bill, "paid")
                self._void_one(items[0])
            case _:
                assert_never(whim)

    def _void_one(self, items: list[dict[str, Any]]) -> None:
        self._pos.void_item(self._chance.choice(items)["id"])


_PRINTED: Final = (
    "SELECT id FROM kitchen_kitchenticket WHERE status = 'printed' AND id = ANY(%s) ORDER BY id DESC LIMIT 50"
)
"""Void the newest item: it is most often one that is just being printed."""
_ITEM: Final = (
    "SELECT bi.id, bi.bill_id, bi.quantity FROM kitchen_kitchenticketitem i JOIN pos_billitem bi"
    " ON bi.id = i.bill_item_id WHERE i.kitchen_ticket_id = %s ORDER BY i.id"
)
