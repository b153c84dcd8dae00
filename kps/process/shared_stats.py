"""Facts of a child in shared memory: one 8-byte cell each, one writer, no lock, so a kill can break nothing."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import MutableSequence
from enum import IntEnum
from itertools import accumulate
from typing import NamedTuple, cast

from kps.core.tickets import ProofLevel
from kps.process.clocks import monotonic

Cells = MutableSequence[float]
CELLS = 64
_CELL_BYTES = 8
_PAIR_BYTES = 2 * CELLS * _CELL_BYTES
PAIRS = 65_536
"""So many children a supervisor can ever have had. Memory that nobody has written in takes no room."""

PRINT_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, float("inf"))
"""Upper bounds of the print time histogram, in seconds."""


class Stage(IntEnum):
    """How far a printer process is with the ticket that it has in hand."""

    IDLE = 0
    TAKEN = 1
    """Taken from the mailbox or promised, no byte has left: a death here is the ticket's fault or the code's."""
    LEAVING = 2
    """Bytes may be leaving."""


class Cell(IntEnum):
    """What stands where in a child's stats. What is counted is declared in kps.process.counters."""

    BEAT = 0
    TICKET = 1
    TOKEN = 2
    STAGE = 3
    CONNECTED = 4
    LAST_OK = 5
    UNREACHED_SINCE = 7
    """Monotonic time since which the device cannot be reached at all; 0 = it can."""
    BYTES = 8
    RECONNECTS = 9
    DATABASE_ERRORS = 10
    LOG_DROPPED = 11
    MARKED = 12
    STALE_TOKENS = 13
    NOT_PRINTED = 14
    UNCERTAIN = 15
    UNPRINTABLE = 16
    PRINTED_PROCESS_ID = 17
    PRINTED_FENCE = 18
    PRINTED_REALTIME = 19
    PRINTED_NONE = 20
    FAILED = 21
    """Tickets that this process made `failed`."""
    LAST_POLL = 22
    """Wall time of the dispatcher's last look, seconds since 1970; for showing only."""
    CLAIMED = 23
    POLL_FOUND_WORK = 24
    LISTENER_RECONNECTS = 25
    LISTENER_PROVEN = 26
    ROUNDS_ENDED = 27
    RESCUED = 28
    RECONCILED = 30
    RELEASED = 34
    """Tickets that this printer process gave back before it began them."""
    DATABASE_TROUBLE_SINCE = 31
    """Monotonic time since which this process cannot do its work in the database; 0 = it can."""
    UNROUTABLE = 32
    """Tickets that wait for a printer row now."""
    HELD_TICKETS = 33
    """Tickets that wait because their printers are switched off in the POS, or because none can print (hold)."""
    DEMOTED = 35
    """Times that a device lost its proof level by contrary evidence."""
    LATE_PROOFS = 36
    """Copies that were given up and proven afterwards."""
    STRAY_IDS = 37
    """Process IDs that no ticket ever had."""
    CLEARED = 38
    """Tickets that a blocked printer threw away, proven."""
    PROOF_LEVEL = 39
    """The device's proof level in force, as its place in ProofLevel, from 1; 0 = not known yet."""
    SLIPS_MADE = 60
    """Slips that this dispatcher has made."""
    SLIPS_PRINTED = 61
    SLIPS_GIVEN_UP = 62
    """Slips that were given up: too old, or no printer took them."""
    BACKLOG_BEFORE = 53
    """With BACKLOG_UP_TO: what lies behind this dispatcher's first look (unix seconds, database's clock)."""
    BACKLOG_UP_TO = 54
    """0 = the first look is still to be made; a ticket's number = its old tickets are being failed; -1 = all is done.

    The next incarnation goes on with it.
    """
    PRINT_SECONDS = 40
    BUCKETS = 41


PRINTED_CELL = {
    ProofLevel.PROCESS_ID: Cell.PRINTED_PROCESS_ID,
    ProofLevel.FENCE: Cell.PRINTED_FENCE,
    ProofLevel.REALTIME: Cell.PRINTED_REALTIME,
    ProofLevel.NONE: Cell.PRINTED_NONE,
}


class ChildCells(NamedTuple):
    """The shared memory of a child."""

    stats: Cells
    """What the child says."""
    lease_cells: Cells
    """What the supervisor says, see LeaseCell."""


class SharedStats:
    """The memory that a supervisor shares with all its children: a file without a name, mapped once by each."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Those of the file that is open as `descriptor`, or of a new one. Raises OSError."""
        if descriptor is None:
            descriptor = os.memfd_create("kps-stats", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, PAIRS * _PAIR_BYTES)
        self.descriptor = descriptor
        self._memory = memoryview(mmap.mmap(descriptor, PAIRS * _PAIR_BYTES)).cast("d")
        self._taken = 0

    def take(self) -> int:
        """The number of a pair that no child has had, all zero. Raises OSError when there is none left."""
        if self._taken >= PAIRS:
            raise OSError(errno.ENOMEM, "no shared memory left")
        self._taken += 1
        return self._taken - 1

    def pair(self, number: int) -> ChildCells:
        """The pair of that number."""
        first = 2 * number * CELLS
        memory = self._memory
        return ChildCells(
            cast(Cells, memory[first : first + CELLS]), cast(Cells, memory[first + CELLS : first + 2 * CELLS])
        )

    def close(self) -> None:
        """Let go of the file; what is mapped stays mapped as long as somebody uses it."""
        os.close(self.descriptor)


class Stats:
    """What a child writes: belongs to its work loop. Its next incarnation counts on."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._before = list(cells)

    def beat(self) -> None:
        """I am working."""
        self._cells[Cell.BEAT] = monotonic()

    def set(self, cell: Cell, value: float) -> None:
        """Replace one fact."""
        self._cells[cell] = value

    def get(self, cell: Cell) -> float:
        """Read one fact."""
        return self._cells[cell]

    def add(self, cell: Cell, amount: float = 1.0) -> None:
        """Count on."""
        self._cells[cell] += amount

    def count(self, cell: Cell, mine: float) -> None:
        """Count to `mine` since the start of this process, on top of what those before it have counted."""
        self._cells[cell] = self._before[cell] + mine

    def observe_print(self, seconds: float) -> None:
        """Count one print time."""
        index = next(i for i, bound in enumerate(PRINT_BUCKETS_S) if seconds <= bound)
        self._cells[Cell.BUCKETS + index] += 1.0
        self._cells[Cell.PRINT_SECONDS] += seconds


def print_buckets(cells: Cells) -> dict[float, int]:
    """Cumulative print times by upper bound."""
    counts = [int(cells[Cell.BUCKETS + index]) for index in range(len(PRINT_BUCKETS_S))]
    return dict(zip(PRINT_BUCKETS_S, accumulate(counts), strict=True))


class LeaseCell(IntEnum):
    """What the supervisor writes for a child."""

    TRUST_UNTIL = 0
    """BOOTTIME until which the printer's lease is surely ours; 0 = not ours."""
