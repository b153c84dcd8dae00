"""The printer without its sockets: bytes of connections in, papers and answers out, the clock given from outside.

    connection -> NIC buffer -> receive buffer -> decoder -> line queue -> mechanism -> paper

Real-time commands are executed where the receive buffer begins. What is behind it stops while the printer is offline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import assert_never

from kps.demo.virtual_printer.answers import Answers
from kps.demo.virtual_printer.buffers import Origin, TaggedBuffer
from kps.demo.virtual_printer.connection import Action
from kps.demo.virtual_printer.connection_table import ConnectionTable
from kps.demo.virtual_printer.event_log import EventLog
from kps.demo.virtual_printer.faults import Faults, ResetWhen
from kps.demo.virtual_printer.intake import Intake
from kps.demo.virtual_printer.interpreter import Interpreter
from kps.demo.virtual_printer.mechanism import Mechanism
from kps.demo.virtual_printer.paper_path import Cutter, Roll
from kps.demo.virtual_printer.paper_tray import PaperTray
from kps.demo.virtual_printer.records import EndedBy, Event, EventKind, Paper
from kps.demo.virtual_printer.replies import Replies
from kps.demo.virtual_printer.sensors import Sensors
from kps.demo.virtual_printer.settings import Cap, Connections, Settings
from kps.demo.virtual_printer.sheet import Answer, Cut, Feed, PrintLine, PrintRaster, Work
from kps.demo.virtual_printer.traffic import Traffic

TRAFFIC_KEPT = 32_000_000
"""Received bytes that can be looked up; 1 MB where a demo keeps only some papers whole."""
TRAFFIC_KEPT_IN_DEMOS = 1_000_000
_FOREIGN_PAGE = "cp437"


class Machine:
    """One printer. Call `run()` after anything has changed and at `next_wake()`; carry out `take_actions()`.

    It leads data through its parts and does what concerns all of them: sensors, real-time commands, power.
    Not thread-safe; `clock` gives seconds that never go back.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float], name: str = "printer") -> None:
        self.settings = settings
        self.name = name
        self.powered = True
        self.bytes_in = 0
        self.sensors = Sensors()
        self.faults = Faults(talking=settings.talks, power_notice=settings.power_notice)
        self._clock = clock
        self._log = EventLog(clock)
        received = TaggedBuffer()
        self._connections = ConnectionTable(settings, clock, self._log, self.faults, received)
        self._replies = Replies(settings, clock, self._log, self.faults, self.sensors, self._connections)
        self._answers = Answers(settings, self.sensors, self.faults, self._connections, self._replies)
        self._intake = Intake(settings, received, self._connections)
        self._mechanism = Mechanism(settings, clock())
        self._interpreter = Interpreter(
            settings, self._log, self.faults, self._connections, self._answers, self._mechanism
        )
        self._roll = Roll()
        self._cutter = Cutter(clock())
        self._tray = PaperTray(settings.keep_raw)
        self._traffic = Traffic(TRAFFIC_KEPT if settings.keep_raw is None else TRAFFIC_KEPT_IN_DEMOS)
        self._boot()

    def _boot(self) -> None:
        """RAM as it is after power-on."""
        self._intake.boot()
        self._interpreter.boot()
        self._mechanism.boot(self._clock())
        self._answers.boot()

    @property
    def papers(self) -> list[Paper]:
        """All papers so far, oldest first."""
        return self._tray.papers

    @property
    def events(self) -> deque[Event]:
        """What happened, oldest first."""
        return self._log.events

    @property
    def beeps(self) -> int:
        """How often it was heard."""
        return self._interpreter.beeps

    @property
    def concurrent_writers_seen(self) -> bool:
        """Whether two connections ever printed on one paper at the same time."""
        return self._interpreter.writers.concurrent_seen

    @property
    def connections_open(self) -> int:
        """Connections whose peer has not closed."""
        return len(self._connections.open_numbers())

    def bytes_of(self, code: str) -> list[bytes]:
        """What arrived of the tickets with this code, printed or not: from `ESC @` to the cut, one for each copy."""
        return self._traffic.holding(code.encode("ascii"))

    @property
    def listening(self) -> bool:
        """Whether a connect is answered; otherwise it is refused."""
        if not self.powered:
            return False
        return not (self.settings.connections is Connections.ONE_REFUSE and self.connections_open)

    @property
    def talks_now(self) -> bool:
        """Whether it sends without end on every connection, as fast as the hosts read."""
        return self.faults.talking and self.powered and not self.faults.cut_off

    def connect(self) -> int:
        """A connection was accepted; returns its number."""
        occupied = self.connections_open > 0
        connection = self._connections.add()
        if self.faults.reset_when is ResetWhen.ACCEPT:
            self.faults.reset_when = None
            self._connections.reset(connection)
        elif occupied and self.settings.connections is Connections.ONE_RESET:
            self._connections.reset(connection)
        elif self._connections.served(connection):
            self._answers.welcome(connection.number)
        return connection.number

    def room(self, number: int) -> int:
        """How many bytes may be read from this connection now; 0 = its window closes."""
        return self._connections.room(number)

    def receive(self, number: int, data: bytes) -> None:
        """Bytes came in from this connection."""
        connection = self._connections[number]
        now = self._clock()
        connection.last_in = now
        self.bytes_in += len(data)
        self._traffic.note(number, data)
        self._log.note(EventKind.BYTES_IN, number, f"{len(data)} bytes", size=len(data))
        if self.faults.swallowing:
            self._log.lost(number, len(data), "swallowed")
            return
        self._answers.answer_at_arrival(connection, data)
        kept = data[: max(0, self.settings.nic_buffer - len(connection.nic))]
        connection.nic.append(kept, Origin(number, now, self._mechanism.stops))
        if len(kept) < len(data):
            self._log.lost(number, len(data) - len(kept), "buffer overflow")
            self._interpreter.spoil()

    def peer_closed(self, number: int, *, reset: bool = False) -> None:
        """The peer ended the connection by FIN, or by RST. What it sent is still printed."""
        self._connections.ended(number, reset=reset)

    def reply_lost(self, number: int, data: bytes) -> None:
        """An answer was dropped: too many wait already for a host that does not read."""
        self._replies.lost(number, data)

    def inject(self, data: bytes) -> None:
        """Send these bytes on every connection, as they are."""
        self._replies.inject(data)

    def take_actions(self) -> list[Action]:
        """What is to be done to the sockets, in order; each is handed out once."""
        return self._connections.take_actions()

    def status_answer(self) -> bytes:
        """What the status port answers to `ESC v`; empty = nothing. It has a computer of its own."""
        return self.sensors.automatic(self.settings.status_cutter_bit) if self.powered else b""

    def foreign_print(self, lines: Iterable[str], *, initialise: bool = False) -> None:
        """Somebody else, on another interface, prints these lines and cuts. `initialise`: with an `ESC @` before.

        Like any other host's, the paper waits until the one that is being printed is cut or its sender has gone.
        """
        text = "".join(f"{line}\n" for line in lines).encode(_FOREIGN_PAGE, "replace")
        self._connections.add_foreign(b"\x1b@" * initialise + text + b"\x1dV\x00", self._mechanism.stops)

    def run(self) -> None:
        """Do everything that can be done by now."""
        now = self._clock()
        self._connections.notice_ends(now)
        while self.powered:
            moved = self._transfer()
            decoded = self._decode(now)
            printed = self._print(now)
            if not (moved or decoded or printed):
                break
        self._answers.release_echoes(now, at_rest=self.powered and self._mechanism.idle and self._intake.empty)
        self._connections.close_idle(now)
        self._replies.release(now)
        for number in self._connections.forget_finished(self._owes):
            self._replies.forget(number)

    def next_wake(self) -> float | None:
        """When `run()` has something to do although nothing happens; None = only after an event."""
        times = [*self._replies.next_wake(), *self._answers.next_wake(), *self._connections.next_wake()]
        if self._mechanism.done_at is not None and not self.sensors.offline:
            times.append(self._mechanism.done_at)
        return min(times, default=None)

    def finish(self) -> None:
        """The printer is put away: an uncut paper becomes a record."""
        self._tear_off(EndedBy.STOPPED)

    def _owes(self, number: int) -> bool:
        """Whether this connection has data that is not printed, or answers that are not sent."""
        return (
            self._mechanism.owes(number)
            or self._replies.owed_to(number)
            or self._answers.owed_to(number)
            or self._intake.holds(number)
        )

    def _transfer(self) -> bool:
        moved = False
        for connection, command in self._intake.transfer(self._interpreter.mid_paper):
            moved = True
            if command:
                self._real_time(connection.number, command)
            if not self.powered:
                return moved
        for connection, command in self._intake.status_requests():
            moved = True
            self._real_time(connection.number, command)
        return moved

    def _decode(self, now: float) -> bool:
        decoded = False
        while self.powered and not self.sensors.offline and not self._mechanism.full:
            step = self._intake.decode()
            if not step.consumed:
                break
            decoded = True
            if step.command is not None:
                self._interpreter.execute(step.command, self._intake.command_origin, now)
        return decoded

    def _print(self, now: float) -> bool:
        printed = False
        while not self.sensors.offline and (work := self._mechanism.next_done(now)) is not None:
            self._finish(work, self._mechanism.free_at)
            printed = True
        return printed

    def _finish(self, work: Work, now: float) -> None:
        match work:
            case Answer():
                self._answers.answer(work, now, self._cutter.cuts)
            case Cut():
                self._finish_cut(work, now)
            case PrintLine():
                self._mechanism.put_on_paper(work)
                if self._roll.use_line():
                    self.paper_out()
            case PrintRaster() | Feed():
                self._mechanism.put_on_paper(work)
            case _:
                assert_never(work)

    def _finish_cut(self, work: Cut, now: float) -> None:
        if not self._cutter.cut(now):
            self._mechanism.put_back(work)
            self.change("cutter jammed", cutter_error=True)
            return
        self._mechanism.put_on_paper(work)
        self._log.note(EventKind.COUNTER, 0, f"{self._cutter.cuts} cuts")
        paper = self._tear_off(EndedBy.CUT, now, work.spoiled)
        if self.faults.reset_when is ResetWhen.AFTER_CUT and paper is not None:
            self.faults.reset_when = None
            self._connections.reset_all(paper.connections)

    def _tear_off(self, ended_by: EndedBy, t_cut: float | None = None, spoiled: bool = False) -> Paper | None:
        """Turn the paper below the head into a record. Unless cut, a paper on which nothing happened is none."""
        if ended_by is not EndedBy.CUT:
            self._interpreter.drop_paper()
        paper = self._mechanism.take_paper(len(self.papers) + 1, self.name, ended_by, t_cut, spoiled)
        if paper is not None:
            self._tray.add(paper)
            self._log.note(EventKind.PAPER, paper.connection, f"paper {paper.sequence}, {ended_by.value}")
        return paper

    def _real_time(self, number: int, command: bytes) -> None:
        self._log.note(EventKind.REALTIME, number, command.hex(" "), command)
        match command[1], command[2]:
            case 0x04, n:
                self._answers.answer_status_request(number, n)
            case 0x05, n:
                self._recover(clear=n == 2)
            case 0x14, 0x01:
                self._log.note(EventKind.SENSOR, 0, "drawer pulse")
            case 0x14, 0x02:
                self.power_off()
            case 0x14, 0x08:
                if Cap.CLEAR in self.settings.caps:
                    self._clear()
                    self._replies.send(number, b"\x37\x25\x00")
            case _:
                raise AssertionError(f"no real-time command: {command.hex(' ')}")

    def _recover(self, *, clear: bool) -> None:
        """`DLE ENQ`: only from a recoverable error, here the cutter."""
        if not self.sensors.cutter_error:
            return
        if clear:
            self._clear()
        self.change("cutter recovered by the host", cutter_error=False)

    def _clear(self) -> None:
        """Drop the receive buffer and the print buffer, and the answers held in them; earned ones go out first."""
        self._answers.release_unsent_echo()
        self._log.lost(0, self._intake.discard(), "cleared")
        for connection in self._connections:
            connection.answered_at_arrival = 0
        self._interpreter.drop_line()
        self._mechanism.clear()
        self._tear_off(EndedBy.CLEAR)

    def change(self, what: str, **sensors: bool) -> None:
        """Set sensors by name; the printer stops or goes on accordingly, and says so if automatic status is on."""
        was_offline = self.sensors.offline
        for sensor, value in sensors.items():
            setattr(self.sensors, sensor, value)
        self._log.note(EventKind.SENSOR, 0, what)
        if self.sensors.offline and not was_offline:
            self._pause()
            self._answers.tell_offline()
        elif was_offline and not self.sensors.offline:
            self._mechanism.resume(self._clock())
        self._answers.push_status(powered=self.powered)

    def _pause(self) -> None:
        if self.sensors.cover_open and self.settings.cover_loses_line:
            torn = self._mechanism.tear_line_away()
            if torn is not None:
                self._log.lost(torn.origin.connection, len(torn.raw), "line under an opened cover")
        self._mechanism.pause(self._clock())

    def paper_out(self, after_lines: int = 0) -> None:
        """The roll ends now, or when so many more lines have been printed."""
        if after_lines > 0:
            self._roll.lines_left = after_lines
            return
        self._roll.lines_left = None
        self.change("paper out", paper_end=True)

    def load_paper(self) -> None:
        """A full roll is put in."""
        self._roll.lines_left = None
        self.change("paper loaded", paper_end=False, near_end=False)

    def cutter_error(self, *, at_next_cut: bool = False) -> None:
        """The cutter jams now, or when it is used next: the paper is out, but hangs on."""
        if at_next_cut:
            self._cutter.jam_next = True
        else:
            self.change("cutter error", cutter_error=True)

    def mend_cutter(self) -> None:
        """The cutter is free, and does not jam at its next cut either."""
        self._cutter.jam_next = False
        self.change("cutter mended", cutter_error=False)

    def power_off(self) -> None:
        """Connections, buffers and modes are gone; connects are refused. The uncut paper becomes a record."""
        if not self.powered:
            return
        self._connections.lose_power()
        self._replies.lose_power()
        self._answers.lose_power()
        self.powered = False
        self._log.lost(0, self._intake.discard(), "power off")
        self._tear_off(EndedBy.POWER_LOSS)
        self._cutter.lose_power(self._clock())
        self._log.note(EventKind.COUNTER, 0, f"{self._cutter.cuts} cuts")
        self.sensors.cutter_error = self.sensors.taken_offline = False
        self._boot()
        self._log.note(EventKind.SENSOR, 0, "power off")

    def power_on(self) -> None:
        """Start again with empty memory."""
        if not self.powered:
            self.powered = True
            self._answers.power_on()
            self._boot()
            self._log.note(EventKind.SENSOR, 0, "power on")
