"""Process IDs that a printer says: whether they are ours, and what follows for a ticket that was given up."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque

from kps.core.process_ids import ProcessIds, process_id_value
from kps.core.tickets import ProofLevel
from kps.database.printer_queue import PrinterQueue
from kps.device.link import ECHOES_KEPT
from kps.printer.device_monitor import DeviceMonitor
from kps.process.shared_stats import Cell, Stats

REMEMBERED = 256
"""For so many tries to print the IDs are kept in memory; older ones are looked up in the database."""
LIES = 2
"""After so many IDs in a row that no ticket ever had, the printer's IDs are not believed any more."""

HEARD_AT_ONCE = 32
"""Most IDs that are looked at between two tickets. Each may cost two statements, and the next ticket waits for them."""

log = logging.getLogger("kps.printer")


class LateProofs:
    """Acts on the process IDs that a printer says late, twice, or on a later connection."""

    def __init__(self, queue: PrinterQueue, stats: Stats, monitor: DeviceMonitor) -> None:
        self._queue = queue
        self._stats = stats
        self._monitor = monitor
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._given_up: set[bytes] = set()
        self._waiting: deque[bytes] = deque(maxlen=ECHOES_KEPT)
        self._lies = 0

    def sent(self, ids: ProcessIds, *, proven: bool) -> None:
        """A try to print has ended; these were its IDs."""
        for process_id in (ids.ticket, ids.again, ids.after):
            self._known[process_id] = None
        if proven:
            self._lies = 0
        else:
            self._given_up |= {ids.ticket, ids.again}
        while len(self._known) > 3 * REMEMBERED:
            self._given_up.discard(self._known.popitem(last=False)[0])

    def listen(self) -> None:
        """Act on the IDs that came since the last call. Raises DatabaseTrouble; what is left then is done later."""
        self._waiting += self._monitor.device.take_echoes()
        for _ in range(min(len(self._waiting), HEARD_AT_ONCE)):
            self._hear(self._waiting[0])
            self._waiting.popleft()

    def _hear(self, process_id: bytes) -> None:
        if process_id in self._known and process_id not in self._given_up:
            return
        if self._prove(process_id) or process_id in self._known or self._may_be_ours(process_id):
            self._given_up.discard(process_id)
            return
        self._stats.add(Cell.STRAY_IDS)
        if self._monitor.device.abilities.level is not ProofLevel.PROCESS_ID:
            return
        self._lies += 1
        log.warning("unknown process id", extra={"text": process_id.decode("ascii", "replace")})
        if self._lies >= LIES:
            self._monitor.device.disbelieve("it answered process IDs that no ticket ever had")

    def _prove(self, process_id: bytes) -> bool:
        """Whether this proves a ticket that was given up; if so, the database knows it now."""
        value = _value(process_id)
        config = self._monitor.config
        late = None if value is None else self._queue.late_proof(config.key, config.rows, value)
        if late is None:
            return False
        self._stats.add(Cell.LATE_PROOFS)
        log.warning("late proof", extra={"ticket": late.ticket, "status": late.status, "twice": late.twice})
        if late.cleared:
            self._monitor.device.disbelieve("it printed a ticket that it said it had thrown away")
        return True

    def _may_be_ours(self, process_id: bytes) -> bool:
        """Whether it was given to an earlier process or to another printer: then the printer has not made it up."""
        value = _value(process_id)
        return value is not None and self._queue.may_be_ours(value)


def _value(process_id: bytes) -> int | None:
    try:
        return process_id_value(process_id)
    except ValueError:
        return None
