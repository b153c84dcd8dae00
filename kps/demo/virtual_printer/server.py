"""A virtual printer on the network: a machine and its sockets, in a thread of their own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from kps.demo.virtual_printer.drawing import draw
from kps.demo.virtual_printer.faults import FenceFault, IdFault, Noise, ResetWhen
from kps.demo.virtual_printer.machine import Machine
from kps.demo.virtual_printer.records import Event, Paper
from kps.demo.virtual_printer.sensors import Sensors
from kps.demo.virtual_printer.settings import Speed, settings_for
from kps.demo.virtual_printer.sockets import Sockets

T = TypeVar("T")

_CALL_TIMEOUT = 10.0
_STOP_TIMEOUT = 10.0


class PrinterStuck(RuntimeError):
    """The printer's thread did not answer or end in time: a fault of the virtual printer itself."""


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    """A function that another thread wants to be called in the printer's thread."""

    function: Callable[[], T]
    future: Future[T] = field(default_factory=Future)

    def run(self, and_then: Callable[[], None]) -> None:
        """Call it and `and_then`, then let the caller go on. OSError and ValueError are raised in the caller."""
        try:
            value = self.function()
            and_then()
        except (OSError, ValueError) as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)


def _second(status_port: int | None, port: int) -> int | None:
    """The status port to ask for: any free one where the printer's own port is any free one."""
    return None if status_port is None else status_port if port else 0


class VirtualPrinter:
    """A network printer in a thread of its own; use it as a context manager.

    `host` may be any address of this host, 127.x.y.z included; `port` 0 takes a free one. `profile` names one of
    PROFILES, `speed` is 'fast' (no time at all) or 'real'; `changes` are fields of Settings. All methods may be called
    from any thread; when a method returns, what it asked for is in force. The records stay readable after `stop()`.
    If the profile has a status port, `status_port` is its number; it is a free one where `port` is.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        name: str = "kitchen-1",
        *,
        profile: str = "generic",
        speed: Speed | str = Speed.FAST,
        **changes: Any,
    ) -> None:
        self.host = host
        self.port = port
        self.name = name
        self.settings = settings_for(profile, speed, **changes)
        self.status_port = _second(self.settings.status_port, port)
        self._machine = Machine(self.settings, time.monotonic, name)
        self._calls: queue.SimpleQueue[_Call[Any]] = queue.SimpleQueue()
        self._changed = threading.Condition()  # its lock is held while the machine is read or changed
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._sockets: Sockets | None = None

    def start(self) -> Self:
        """Listen and run. Raises OSError if the address cannot be had, RuntimeError at a second start."""
        if self._thread is not None:
            raise RuntimeError("a virtual printer is started once")
        self._sockets = Sockets(self._machine, self.host, self.port, self.status_port)
        self.port, self.status_port = self._sockets.port, self._sockets.status_port
        self._thread = threading.Thread(
            target=self._work, args=(self._sockets,), name=f"virtual-printer-{self.name}", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close everything and end the thread. An uncut paper becomes a record. Harmless if not running."""
        if self._sockets is None or self._thread is None or self._stopping:
            return
        self._stopping = True
        self._sockets.wake()
        self._thread.join(_STOP_TIMEOUT)
        if self._thread.is_alive():
            raise PrinterStuck(f"{self.name} does not stop")
        self._sockets.release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def papers(self) -> list[Paper]:
        """All papers so far, oldest first."""
        with self._changed:
            return list(self._machine.papers)

    @property
    def events(self) -> list[Event]:
        """What happened, oldest first; the newest 50,000."""
        with self._changed:
            return list(self._machine.events)

    @property
    def connections_open(self) -> int:
        """Connections whose host has not closed them."""
        with self._changed:
            return self._machine.connections_open

    @property
    def listening(self) -> bool:
        """Whether connects are answered now; otherwise they are refused."""
        with self._changed:
            return self._sockets is not None and self._sockets.listening

    @property
    def bytes_in(self) -> int:
        """Bytes received so far, status requests included."""
        return self._machine.bytes_in

    @property
    def beeps(self) -> int:
        """How often a host has made it heard."""
        return self._machine.beeps

    @property
    def concurrent_writers_seen(self) -> bool:
        """Whether two connections ever printed on one paper at the same time."""
        return self._machine.concurrent_writers_seen

    @property
    def first_byte_times(self) -> list[float]:
        """For each paper the `time.monotonic()` at which the first byte of its print data arrived."""
        return [paper.t_first_byte for paper in self.papers]

    @property
    def sensors(self) -> Sensors:
        """The sensors as they are now; read only."""
        return self._machine.sensors

    def paper_text(self, n: int) -> str:
        """The text of paper n, from 1; `[image 576 x 30]` stands for a bitmap."""
        return self.papers[n - 1].shown

    def png(self, n: int) -> bytes:
        """Paper n, from 1, as a PNG, one pixel for each dot."""
        return draw(self.papers[n - 1], self.settings.dots, self.settings.columns)

    def bytes_of(self, code: str) -> list[bytes]:
        """What arrived of the tickets with this code, printed or not: from `ESC @` to the cut, one for each copy.

        The code is found where it stands in one piece in ASCII. Of very old traffic nothing is known any more.
        """
        with self._changed:
            return self._machine.bytes_of(code)

    def texts(self) -> list[str]:
        """The text of every paper."""
        return [paper.text for paper in self.papers]

    def find(self, substring: str) -> list[Paper]:
        """The papers whose text contains this; `[image 576 x 30]` stands for a bitmap."""
        return [paper for paper in self.papers if substring in paper.shown]

    def wait_paper(self, n: int = 1, timeout: float = 10.0) -> Paper:
        """Paper n, from 1, as soon as it is there. Raises TimeoutError."""
        self.wait_for(lambda: len(self._machine.papers) >= n, timeout, f"paper {n}")
        return self.papers[n - 1]

    def wait_text(self, substring: str, timeout: float = 10.0) -> Paper:
        """The first paper whose text contains this, as soon as it is there. Raises TimeoutError."""
        self.wait_for(lambda: bool(self.find(substring)), timeout, f"a paper with {substring!r}")
        return self.find(substring)[0]

    def wait_for(self, condition: Callable[[], bool], timeout: float = 10.0, what: str = "the condition") -> None:
        """Wait until the condition holds; it is looked at whenever this printer has done something.

        The condition may read the properties and records, but may not do anything to the printer.
        Raises TimeoutError, which says what was waited for and what there was.
        """
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(
                    f"{self.name}: {what} did not come within {timeout} s; last papers: {self.texts()[-3:]}"
                )

    def wait_connections(self, count: int, timeout: float = 10.0) -> None:
        """Wait until exactly so many connections are open. Raises TimeoutError."""
        self.wait_for(lambda: self.connections_open == count, timeout, f"{count} connections")

    def paper_out(self, after_lines: int = 0) -> None:
        """The roll ends: now, or when so many more lines have been printed."""
        self._call(lambda: self._machine.paper_out(after_lines))

    def paper_near_end(self) -> None:
        """The roll is nearly empty: a warning, printing goes on."""
        self._call(lambda: self._machine.change("paper near end", near_end=True))

    def load_paper(self) -> None:
        """A full roll is put in; held data is printed."""
        self._call(self._machine.load_paper)

    def open_cover(self) -> None:
        """The cover is opened: offline."""
        self._call(lambda: self._machine.change("cover open", cover_open=True))

    def close_cover(self) -> None:
        """The cover is closed; held data is printed."""
        self._call(lambda: self._machine.change("cover closed", cover_open=False))

    def cutter_error(self, *, at_next_cut: bool = False) -> None:
        """The cutter jams, now or at the next cut; only `DLE ENQ`, a power cycle or `mend_cutter` ends it."""
        self._call(lambda: self._machine.cutter_error(at_next_cut=at_next_cut))

    def mend_cutter(self) -> None:
        """Somebody frees the cutter; a cut that hung is made, and a jam that waits for its next cut does not come."""
        self._call(self._machine.mend_cutter)

    def go_offline(self) -> None:
        """Offline without a cause that a host can read."""
        self._call(lambda: self._machine.change("taken offline", taken_offline=True))

    def go_online(self) -> None:
        """Ends `go_offline`."""
        self._call(lambda: self._machine.change("online", taken_offline=False))

    def power_off(self, *, silently: bool = False) -> None:
        """Connections are reset, buffers are lost, connects are refused until `power_on`. The port stays ours.

        `silently`: as a real one without power, it says nothing on the network: no reset, no refusal.
        """
        if silently:
            self.pull_cable()
        self._call(self._machine.power_off)

    def power_on(self) -> None:
        """Listen again on the same port, with empty memory. Who still uses an old connection is reset."""
        self._call(self._machine.power_on)
        self.plug_cable()

    def power_cycle(self, *, silently: bool = False) -> None:
        """Off and on: buffers, modes, automatic status, unsaved counters and connections are gone."""
        self.power_off(silently=silently)
        self.power_on()

    def power_notice(self, on: bool = True) -> None:
        """After each power-on `3B 31 00` is sent to the first host that connects."""
        self._call(lambda: setattr(self._machine.faults, "power_notice", on))

    def pull_cable(self) -> None:
        """Half-open connections: nothing is heard, acknowledged or said on the network; printing goes on.

        Raises OSError where the system cannot do this: it needs Linux, and newer ones want CAP_NET_ADMIN.
        """
        self._call(lambda: self._set_cable(plugged=False))

    def plug_cable(self) -> None:
        """Ends `pull_cable`. Who uses a connection that has ended here meanwhile is reset."""
        self._call(lambda: self._set_cable(plugged=True))

    def hang(self, on: bool = True) -> None:
        """Connections are accepted, but nothing is read and nothing is answered."""
        self._call(lambda: setattr(self._machine.faults, "hanging", on))

    def silent(self, on: bool = True) -> None:
        """Everything is printed, nothing is answered."""
        self._call(lambda: setattr(self._machine.faults, "silent", on))

    def swallow(self, on: bool = True) -> None:
        """Everything is read, nothing is printed, nothing is answered: half-open behind a proxy."""
        self._call(lambda: setattr(self._machine.faults, "swallowing", on))

    def talk(self, on: bool = True) -> None:
        """It sends without end on every connection, besides all that it does."""
        self._call(lambda: setattr(self._machine.faults, "talking", on))

    def id_fault(self, kind: IdFault | str | None, times: int | None = None) -> None:
        """What is wrong with the echoes of the next `times` process IDs (None = all); None ends it."""
        self._call(lambda: self._machine.faults.process_id.set(None if kind is None else IdFault(kind), times))

    def fence_fault(self, kind: FenceFault | str | None, times: int | None = None) -> None:
        """What is wrong with the answers to the next `times` `GS r` (None = all); None ends it."""
        self._call(lambda: self._machine.faults.fence.set(None if kind is None else FenceFault(kind), times))

    def noise(self, kind: Noise | str | None, times: int | None = None) -> None:
        """What comes along with the next `times` answers (None = all); None ends it."""
        self._call(lambda: self._machine.faults.noise.set(None if kind is None else Noise(kind), times))

    def inject(self, data: bytes) -> None:
        """Send these bytes on every connection now, as they are."""
        self._call(lambda: self._machine.inject(data))

    def foreign_print(self, lines: Iterable[str], *, initialise: bool = False) -> None:
        """Another host prints these lines and cuts, which raises the counter of cuts.

        Its paper comes when ours has been cut or its sender has gone. `initialise`: it begins with `ESC @`, as many
        do, and so turns automatic status off for all.
        """
        self._call(lambda: self._machine.foreign_print(lines, initialise=initialise))

    def reset_next(self, when: ResetWhen | str) -> None:
        """Break one connection off by RST: at its 'accept', in the 'mid' of a ticket, or 'after_cut'."""
        self._call(lambda: setattr(self._machine.faults, "reset_when", ResetWhen(when)))

    def _call(self, function: Callable[[], T]) -> T:
        """Run this in the printer's thread and wait until its effects are in force."""
        if self._sockets is None or self._thread is None or not self._thread.is_alive():
            return function()
        call = _Call(function)
        self._calls.put(call)
        self._sockets.wake()
        try:
            return call.future.result(_CALL_TIMEOUT)
        except TimeoutError as error:
            raise PrinterStuck(f"{self.name} does not answer") from error

    def _set_cable(self, *, plugged: bool) -> None:
        if self._sockets is None:
            self._machine.faults.unreachable = not plugged
        elif plugged:
            self._sockets.plug_cable()
        else:
            self._sockets.pull_cable()

    def _work(self, sockets: Sockets) -> None:
        try:
            while not self._stopping:
                with self._changed:
                    sockets.settle()
                    self._changed.notify_all()
                    until = self._machine.next_wake()
                ready = sockets.wait(until)
                with self._changed:
                    for descriptor, events in ready:
                        sockets.serve(descriptor, events)
                    self._run_calls(and_then=sockets.settle)
        finally:
            with self._changed:
                sockets.close()
                self._machine.finish()
                self._run_calls(and_then=lambda: None)
                self._changed.notify_all()

    def _run_calls(self, and_then: Callable[[], None]) -> None:
        while not self._calls.empty():
            self._calls.get().run(and_then)
