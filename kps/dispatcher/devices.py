"""What the database says about the devices, read again when it is too old to decide with."""

from __future__ import annotations

from kps.core.agenda import Agenda, Task
from kps.core.routing import DeviceState, Routes
from kps.core.tickets import PrinterKey
from kps.database.dispatcher_queue import DispatcherQueue
from kps.process.clocks import monotonic

DEVICES_EVERY_S = 1.0
"""Age of what is known about devices, at most, when something is decided with it. Their changes are notified."""
LEASES_EVERY_S = 10.0
"""Between two looks at the leases, at most, although nothing is decided: see `_by_our_clock`. So much less than
UNOWNED_GRACE_S that a lease which has seemed to lapse is taken again before that is over."""


class Devices:
    """The state of every device that a printer row names, whichever instance owns it."""

    def __init__(self, queue: DispatcherQueue, agenda: Agenda) -> None:
        self._queue = queue
        self._agenda = agenda
        self.states: dict[PrinterKey, DeviceState] = {}
        self._alive_at: dict[PrinterKey, float] = {}
        """When each lease was last seen alive, by our monotonic clock."""

    def read(self, routes: Routes) -> None:
        """Read the states, unless those that we have are young enough to decide with."""
        if not self._agenda.due(Task.READ_DEVICES, monotonic()) and self.states:
            return
        keys = {row.key for row in routes.rows if row.key}
        self.states = {key: self._by_our_clock(state) for key, (state, _, _) in self._queue.devices(keys).items()}
        self._agenda.put(Task.READ_DEVICES, monotonic() + DEVICES_EVERY_S)
        self._agenda.put(Task.READ_LEASES, monotonic() + LEASES_EVERY_S)

    def read_leases(self, routes: Routes) -> None:
        """Read which leases are alive, although nothing has to be decided, if that was not read lately."""
        if self._agenda.due(Task.READ_LEASES, monotonic()):
            self.read(routes)

    def _by_our_clock(self, state: DeviceState) -> DeviceState:
        """The state; its lease has ended no longer ago than we saw it alive, whatever the database's clock has done."""
        if state.live:
            self._alive_at[state.key] = monotonic()
        if state.key not in self._alive_at:
            return state
        return state.lapsed_at_most(monotonic() - self._alive_at[state.key])
