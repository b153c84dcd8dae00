"""The printers of the chaos shop: what each can prove, and which troubles may happen to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final


class Trouble(StrEnum):
    """What happens to a printer."""

    REFUSES = "printer refuses"
    """Power off for a while: connects are refused, its buffers are lost."""
    HANGS = "printer hangs"
    SILENT = "printer goes silent"
    POWER_CYCLE = "printer power-cycles"
    PAPER_OUT = "printer out of paper"
    COVER_OPEN = "printer cover open"
    CUTTER_JAM = "printer cutter jams"
    RESET = "printer resets a connection"
    WRONG_ID = "printer returns wrong ids"
    TALKATIVE = "printer talks without end"


KEEPS_DATA: Final = frozenset(
    {Trouble.HANGS, Trouble.SILENT, Trouble.PAPER_OUT, Trouble.COVER_OPEN, Trouble.CUTTER_JAM, Trouble.TALKATIVE}
)
"""Troubles after which a printer still has its data, and prints it."""
LOSES_DATA: Final = frozenset({Trouble.REFUSES, Trouble.POWER_CYCLE, Trouble.RESET})
"""Troubles that lose what the printer had accepted and not printed. Only printers that prove paper get them: at
`realtime` a ticket that was closed as sent may be lost with the power, and KPS cannot notice."""


@dataclass(frozen=True, slots=True)
class Device:
    """One printer. `level`, `pushes` and `clears` are stored as if a probe had found them."""

    name: str
    level: str
    profile: str
    troubles: frozenset[Trouble]
    pushes: bool = False
    """Whether it sends changes of its state unasked (`GS a`)."""
    clears: bool = False
    """Whether it discards its data on command (`DLE DC4 8`)."""


PROVEN: Final = KEEPS_DATA | LOSES_DATA
DEVICES: Final = (
    Device("kitchen-1", "process_id", "epson-t20iii", PROVEN, pushes=True, clears=True),
    Device("kitchen-2", "fence", "xprinter-80", PROVEN),
    Device("bar-1", "process_id", "epson-t20iii", PROVEN, pushes=True),
    Device("bar-2", "process_id", "epson-t20iii", PROVEN),
    # A printer that sends wrong IDs loses its level, so it must not also lose data.
    Device("dessert-1", "process_id", "epson-t20iii", KEEPS_DATA | {Trouble.WRONG_ID}),
    Device("checker-1", "process_id", "epson-t20iii", PROVEN),
    Device("pass-1", "realtime", "xprinter-80", KEEPS_DATA),
)
ROUTES: Final = (
    ("kitchen", "kitchen-1"),
    ("kitchen", "kitchen-2"),
    ("bar", "bar-1"),
    ("bar", "bar-2"),
    ("dessert", "dessert-1"),
    ("dessert", "pass-1"),
    ("checker", "checker-1"),
    ("checker", "pass-1"),
)
"""(station, printer); the first printer of a station is its primary. `pass-1` is the backup of two stations."""
PAIRS: Final = {(first, second) for (of, first), (at, second) in pairwise(ROUTES) if of == at}
"""The primary and the backup of each station."""
SHARES: Final = {"kitchen": 0.3, "bar": 0.25, "dessert": 0.25, "checker": 0.2}
"""The share of the tickets that each station gets."""
