"""The printer without its sockets: bytes of connections in, papers and answers out, the clock given from outside.

    connection -> NIC buffer -> receive buffer -> decoder -> line queue -> mechanism -> paper

Real-time commands are executed where the receive buffer begins. What is behind it stops while the printer is offline.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import assert_never

from kps.demo.virtual_printer.buffers import REAL_TIME, Origin, TaggedBuffer
from kps.demo.virtual_printer.connection import Action, Close, Connection, Reset, ResetWhen, Send
from kps.demo.virtual_printer.decoder import Command, Decoder, Kind
from kps.demo.virtual_printer.faults import Echo, Echoes, FenceFault, Noise, Switch, is_process_id, soiled
from kps.demo.virtual_printer.outbox import Outbox
from kps.demo.virtual_printer.records import EndedBy, Event, EventKind, Paper, Raster
from kps.demo.virtual_printer.sensors import Sensors, asb_differs
from kps.demo.virtual_printer.settings import Cap, Connections, Overflow, Settings, Unknown
from kps.demo.virtual_printer.sheet import Answer, Cut, Feed, PrintLine, PrintRaster, Sheet, Work
from kps.demo.virtual_printer.typesetter import LINE_ROWS, Typesetter
from kps.demo.virtual_printer.wire import Wire

LINE_QUEUE = 16
"""Pieces of work that the decoder may be ahead of the mechanism."""
COUNTER_SAVED_AFTER = 10.0
"""Seconds of rest after which the cut counter survives a power loss (Citizen CT-S2000 manual)."""
CUT_COUNTER = 178
EVENTS_KEPT = 50_000
WIRE_KEPT = 32_000_000
"""Received bytes that can be looked up; 1 MB where a demo keeps only some papers whole."""
WIRE_KEPT_IN_DEMOS = 1_000_000
POWER_NOTICE = b"\x3b\x31\x00"
_INTERLEAVED_PIECE = 256
_SHOWN_BYTES = 16
_FENCE = re.compile(rb"\x1dr[\x01\x02\x31\x32]")
_ALL_IS_WELL = 0x12
_FOREIGN_PAGE = "cp437"


_NEEDS: dict[Kind, Cap] = {
    Kind.FENCE: Cap.FENCE,
    Kind.ASB: Cap.ASB,
    Kind.IDENTITY: Cap.IDENTITY,
    Kind.COUNTER: Cap.COUNTER,
    Kind.RESPONSE: Cap.PROCESS_ID,
}
_SHAPELESS = frozenset({*_NEEDS, Kind.REAL_TIME, Kind.OTHER, Kind.PULSE, Kind.BEEP})
"""Commands that leave no trace on paper."""


class Machine:
    """One printer. Call `run()` after anything has changed and at `next_wake()`; carry out `take_actions()`.

    Not thread-safe; `clock` gives seconds that never go back.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float], name: str = "printer") -> None:
        self.settings = settings
        self.name = name
        self.papers: list[Paper] = []
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.concurrent_writers_seen = False
        self.bytes_in = 0
        self.beeps = 0
        """How often it was heard."""
        self.powered = True
        self.hanging = False
        self.silent = False
        self.swallowing = False
        """Everything is read, nothing is printed or answered."""
        self.unreachable = False
        """Nothing gets through to or from the network: neither answers nor connects nor the end of a connection."""
        self.talking = settings.talks
        """It sends without end, besides all that it does."""
        self.power_notice = settings.power_notice
        self.echoes = Echoes()
        self.fence_fault: Switch[FenceFault] = Switch()
        self.noise: Switch[Noise] = Switch()
        self.sensors = Sensors()
        self._clock = clock
        self._connections: dict[int, Connection] = {}
        self._count = 0
        self._actions: list[Action] = []
        self._outbox = Outbox(settings.reply_delay, settings.reply_chunk)
        self._wire = Wire(WIRE_KEPT if settings.keep_raw is None else WIRE_KEPT_IN_DEMOS)
        self._chance = random.Random(0)
        self._stale_fence = b""
        self._notice_due = False
        self._reset_when: ResetWhen | None = None
        self._jam_next_cut = False
        self._lines_left: int | None = None
        self._stops = 0
        self._cuts = self._cuts_saved = 0
        self._last_cut = self._clock()
        self._sheet = Sheet()
        self._boot()

    def _boot(self) -> None:
        """RAM as it is after power-on."""
        self._receive = TaggedBuffer()
        self._decoder = Decoder()
        self._typesetter = Typesetter(self.settings)
        self._queue: deque[tuple[float, Work]] = deque()
        self._done_at: float | None = None
        self._time_left: float | None = None
        self._free_at = self._clock()
        self._asb = 0x0F if self.settings.asb_at_boot and Cap.ASB in self.settings.caps else 0
        self._last_asb = self.sensors.automatic()
        self._offline_response = 0
        self._raw = bytearray()
        self._spoiled = False
        self._turn: int | None = None
        self._writers: list[int] = []
        self._command_origin = self._line_origin = Origin(0, self._clock(), self._stops)

    @property
    def listening(self) -> bool:
        """Whether a connect is answered; otherwise it is refused."""
        if not self.powered:
            return False
        return not (self.settings.connections is Connections.ONE_REFUSE and self.connections_open)

    @property
    def talks_now(self) -> bool:
        """Whether something is to be said on every connection, as long as the hosts take it."""
        return self.talking and self.powered and not (self.hanging or self.unreachable)

    @property
    def connections_open(self) -> int:
        """Connections whose peer has not closed."""
        return sum(connection.open for connection in self._connections.values())

    def connect(self) -> int:
        """A connection was accepted; returns its number."""
        self._count += 1
        connection = Connection(self._count, self._clock())
        occupied = self.connections_open > 0
        self._connections[connection.number] = connection
        self._note(EventKind.CONNECT, connection.number, "connected")
        if self._reset_when is ResetWhen.ACCEPT:
            self._reset_when = None
            self._reset(connection)
        elif occupied and self.settings.connections is Connections.ONE_RESET:
            self._reset(connection)
        elif self._served(connection):
            self._welcome(connection)
        return connection.number

    def _welcome(self, connection: Connection) -> None:
        """What a printer says by itself to whoever connects."""
        if self._notice_due:
            self._notice_due = False
            self._reply(connection.number, POWER_NOTICE)
        if self.settings.asb_at_boot and self._asb:
            self._reply(connection.number, self.sensors.automatic())

    def room(self, number: int) -> int:
        """How many bytes may be read from this connection now; 0 = its window closes."""
        connection = self._connections.get(number)
        if connection is None or not connection.open or self.hanging or not self._served(connection):
            return 0
        if connection.ended_at is not None:
            return 0
        if self.settings.overflow is Overflow.DROP:
            return self.settings.nic_buffer
        return max(0, self.settings.nic_buffer - len(connection.nic))

    def receive(self, number: int, data: bytes) -> None:
        """Bytes came in from this connection."""
        connection = self._connections[number]
        now = self._clock()
        connection.last_in = now
        self.bytes_in += len(data)
        self._wire.note(number, data)
        self._note(EventKind.BYTES_IN, number, f"{len(data)} bytes", size=len(data))
        if self.swallowing:
            self._lose(number, len(data), "swallowed")
            return
        self._answer_at_arrival(connection, data)
        kept = data[: max(0, self.settings.nic_buffer - len(connection.nic))]
        connection.nic.append(kept, Origin(number, now, self._stops))
        if len(kept) < len(data):
            self._lose(number, len(data) - len(kept), "buffer overflow")
            self._spoiled = True

    def _answer_at_arrival(self, connection: Connection, data: bytes) -> None:
        """What a network side that knows too much says before the printer has read anything."""
        if self._stale_fence:
            stale, self._stale_fence = self._stale_fence, b""
            self._reply(connection.number, stale)
        joined = connection.tail + data
        connection.tail = joined[-2:]
        if self.fence_fault.kind is FenceFault.AT_ARRIVAL and Cap.FENCE in self.settings.caps:
            for _ in _FENCE.finditer(joined):
                if self.fence_fault.take() is FenceFault.AT_ARRIVAL:
                    connection.answered_at_arrival += 1
                    self._reply(connection.number, b"\x00")

    def bytes_of(self, code: str) -> list[bytes]:
        """What arrived of the tickets with this code, printed or not: from `ESC @` to the cut, one for each copy."""
        return self._wire.holding(code.encode("ascii"))

    def peer_closed(self, number: int, *, reset: bool = False) -> None:
        """The peer ended the connection by FIN, or by RST. What it sent is still printed."""
        connection = self._connections.get(number)
        if connection is None:
            return
        connection.gone = connection.gone or reset
        if connection.open and connection.ended_at is None:
            self._note(EventKind.DISCONNECT, number, "reset by the host" if reset else "closed by the host")
            connection.ended_at = self._clock()
        self._notice_ends(self._clock())

    def _notice_ends(self, now: float) -> None:
        for connection in self._connections.values():
            if connection.ended_at is not None and now >= connection.ended_at + self.settings.end_noticed_after:
                connection.open, connection.ended_at = False, None

    def _served(self, connection: Connection) -> bool:
        """Whether the NIC reads this connection at all."""
        if self.settings.connections is not Connections.ONE_HANG:
            return True
        return next((c for c in self._connections.values() if c.open), None) is connection

    def _reset(self, connection: Connection) -> None:
        """Break this connection off; its data that is not decoded yet is lost."""
        if not connection.gone:
            self._actions.append(Reset(connection.number))
            self._note(EventKind.DISCONNECT, connection.number, "reset by the printer")
        connection.open, connection.gone = False, True
        lost = connection.nic.clear() + self._receive.discard(connection.number)
        self._lose(connection.number, lost, "connection reset")

    def _close_idle(self, now: float) -> None:
        if self.settings.idle_timeout is None:
            return
        for connection in self._connections.values():
            if connection.open and now >= connection.last_in + self.settings.idle_timeout and not connection.nic:
                connection.open, connection.gone = False, True
                self._actions.append(Close(connection.number))
                self._note(EventKind.DISCONNECT, connection.number, "closed by the printer: idle")

    def _forget_finished(self) -> None:
        """Close our side when everything of a closed peer is done, so that a late answer still reaches it."""
        for connection in list(self._connections.values()):
            if connection.open or connection.nic:
                continue
            if not connection.gone and not self._owes(connection.number):
                self._actions.append(Close(connection.number))
                connection.gone = True
            if connection.gone:
                del self._connections[connection.number]
                self._outbox.forget(connection.number)

    def _owes(self, number: int) -> bool:
        answers = any(isinstance(work, Answer) and work.connection == number for _, work in self._queue)
        on_its_way = self._outbox.owed_to(number) or self.echoes.owed_to(number)
        return answers or on_its_way or self._receive.holds(number)

    def run(self) -> None:
        """Do everything that can be done by now."""
        now = self._clock()
        self._notice_ends(now)
        while self.powered:
            moved = self._transfer()
            decoded = self._decode(now)
            printed = self._print(now)
            if not (moved or decoded or printed):
                break
        self._echo(self.echoes.due(now))
        if self.powered and not self._queue and not self._receive:
            self._echo(self.echoes.at_rest())
        self._echo(
            self.echoes.inherited([connection.number for connection in self._connections.values() if connection.open])
        )
        self._close_idle(now)
        self._release_replies(now)
        self._forget_finished()

    def next_wake(self) -> float | None:
        """When `run()` has something to do although nothing happens; None = only after an event."""
        times: list[float] = []
        if self._done_at is not None and not self.sensors.offline:
            times.append(self._done_at)
        if not self.hanging and not self.unreachable:
            times.extend(self._outbox.next_wake())
        times.extend(self.echoes.next_wake())
        times.extend(
            connection.ended_at + self.settings.end_noticed_after
            for connection in self._connections.values()
            if connection.ended_at is not None
        )
        if self.settings.idle_timeout is not None:
            times.extend(
                connection.last_in + self.settings.idle_timeout
                for connection in self._connections.values()
                if connection.open and not connection.nic
            )
        return min(times, default=None)

    def take_actions(self) -> list[Action]:
        """What is to be done to the sockets, in order; each is handed out once."""
        actions, self._actions = self._actions, []
        return actions

    def finish(self) -> None:
        """The printer is put away: an uncut paper becomes a record."""
        self._tear_off(EndedBy.STOPPED)

    def _transfer(self) -> bool:
        moved = False
        for connection, limit in self._feeding():
            room = self.settings.receive_buffer - len(self._receive)
            for origin, data in connection.nic.take(min(room, limit)):
                self._enter(connection, origin, data)
                moved = True
        if self.settings.connections is Connections.MANY_ONE_PRINTS:
            moved |= self._answer_waiting()
        return moved

    def _feeding(self) -> Iterable[tuple[Connection, int]]:
        """The connections whose data goes in now, each with how much at a time."""
        waiting = [connection for connection in self._connections.values() if connection.nic]
        if self.settings.connections is Connections.MANY_INTERLEAVE:
            return [(connection, _INTERLEAVED_PIECE) for connection in waiting]
        if waiting and self._turn_is_over():
            self._turn = waiting[0].number
        return [(connection, len(connection.nic)) for connection in waiting if connection.number == self._turn]

    def _turn_is_over(self) -> bool:
        holder = self._connections.get(self._turn or 0)
        if holder is None:
            return True
        if holder.nic or self._receive:
            return False
        return not (holder.open and (self._writers or self._typesetter.pending or not self._decoder.idle))

    def _answer_waiting(self) -> bool:
        """Status requests of those who wait for their turn are answered before it."""
        answered = False
        for connection in list(self._connections.values()):
            while connection.number != self._turn:
                request = REAL_TIME.match(connection.nic.data)
                if request is None or request.group()[1] != 0x04:
                    break
                command = request.group()  # before the buffer moves below the match
                connection.nic.drop(len(command))
                self._real_time(connection, command)
                answered = True
        return answered

    def _enter(self, connection: Connection, origin: Origin, data: bytes) -> None:
        for part, command in connection.scanner.feed(data):
            if not self.powered:
                return
            self._receive.append(part, origin)
            if not command:
                continue
            if self._decoder.idle and self._receive.data == command:
                self._receive.clear()
            self._real_time(connection, command)

    def _real_time(self, connection: Connection, command: bytes) -> None:
        self._note(EventKind.REALTIME, connection.number, command.hex(" "), command)
        match command[1], command[2]:
            case 0x04, n:
                if Cap.REALTIME in self.settings.caps:
                    well = bytes([_ALL_IS_WELL])
                    told = well if self.settings.constant_ok else self.sensors.real_time(n)
                    self._reply(connection.number, told)
            case 0x05, n:
                self._recover(clear=n == 2)
            case 0x14, 0x01:
                self._note(EventKind.SENSOR, 0, "drawer pulse")
            case 0x14, 0x02:
                self.power_off()
            case 0x14, 0x08:
                if Cap.CLEAR in self.settings.caps:
                    self._clear()
                    self._reply(connection.number, b"\x37\x25\x00")
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
        self._echo(self.echoes.at_rest())
        self._lose(0, self._receive.clear(), "cleared")
        for connection in self._connections.values():
            connection.answered_at_arrival = 0
        self._decoder.reset()
        self._typesetter.discard()
        self._queue.clear()
        self._done_at = self._time_left = None
        self._tear_off(EndedBy.CLEAR)

    def _decode(self, now: float) -> bool:
        decoded = False
        while self.powered and not self.sensors.offline and self._receive and len(self._queue) < LINE_QUEUE:
            if self._decoder.idle:
                self._command_origin = self._receive.head()
            step = self._decoder.next(self._receive.data)
            if not step.consumed:
                break
            self._receive.drop(step.consumed)
            decoded = True
            if step.command is not None:
                self._execute(step.command, self._command_origin, now)
        return decoded

    def _execute(self, command: Command, origin: Origin, now: float) -> None:
        kind = command.kind
        unknown = kind is Kind.UNKNOWN or not self._able(command)
        if kind is not Kind.REAL_TIME:
            self._note(
                EventKind.UNKNOWN if unknown else EventKind.COMMAND,
                origin.connection,
                kind.value,
                command.raw[:_SHOWN_BYTES],
                len(command.raw),
            )
        if unknown:
            self._not_understood(command, origin)
            return
        if kind not in _SHAPELESS:
            self._raw += command.raw
        if kind is Kind.CODE_PAGE and command.params[0] not in self.settings.code_pages:
            self._note(EventKind.UNKNOWN, origin.connection, f"code page {command.params[0]}", command.raw)
        if not self._typesetter.apply(command):
            self._act(command, origin, now)

    def _able(self, command: Command) -> bool:
        if command.kind is Kind.RASTER:
            return self.settings.raster
        cap = _NEEDS.get(command.kind)
        if cap is Cap.PROCESS_ID and command.data[:1] == b"\x31":
            cap = Cap.OFFLINE_RESPONSE
        return cap is None or cap in self.settings.caps

    def _not_understood(self, command: Command, origin: Origin) -> None:
        impact = command.kind is Kind.RASTER
        if self.settings.unknown is Unknown.GARBAGE or impact:
            self._spoiled = True
            self._raw += command.raw
            self._write(bytes(byte for byte in command.raw if byte >= 0x20), origin)

    def _act(self, command: Command, origin: Origin, now: float) -> None:
        match command.kind:
            case Kind.TEXT:
                self._write(command.raw, origin)
            case Kind.TAB:
                self._begin_line(origin)
                self._typesetter.tab()
            case Kind.LINE_FEED:
                self._feed_lines(1, origin, now)
            case Kind.FEED_LINES:
                self._feed_lines(command.params[0], origin, now)
            case Kind.FEED_DOTS:
                self._feed_dots(command.params[0], origin, now)
            case Kind.INIT:
                self._typesetter.reset()
                self._asb = 0
            case Kind.RASTER:
                self._print_raster(command, origin, now)
            case Kind.CUT:
                self._cut(command, origin, now)
            case Kind.PULSE:
                self._note(EventKind.SENSOR, origin.connection, "drawer pulse", command.raw)
            case Kind.BEEP:
                self.beeps += 1
            case Kind.ASB:
                self._switch_asb(command.params[0], origin)
            case Kind.RESPONSE if command.data[:2] == b"\x31\x30":
                self._offline_response = command.data[2] % 48 if len(command.data) == 3 else 0
            case Kind.FENCE | Kind.IDENTITY | Kind.COUNTER | Kind.RESPONSE:
                self._queue.append((now, Answer(command, origin.connection)))
            case Kind.SYMBOL | Kind.BARCODE:
                self._note_writer(origin)
            case _:
                pass

    def _write(self, text: bytes, origin: Origin) -> None:
        self._begin_line(origin)
        self._typesetter.add(text)

    def _begin_line(self, origin: Origin) -> None:
        if not self._typesetter.pending:
            self._line_origin = origin
        self._note_writer(origin)

    def _end_line(self, now: float) -> int:
        """Print what waits in the line buffer; returns how many lines that made."""
        lines = self._typesetter.take()
        for line in lines:
            self._queue.append((now, PrintLine(line, self._line_origin, self._take_raw())))
        if lines and self._reset_when is ResetWhen.MID:
            self._reset_when = None
            self._reset_writers([self._line_origin.connection])
        return len(lines)

    def _feed_lines(self, count: int, origin: Origin, now: float) -> None:
        self._note_writer(origin)
        if self._end_line(now):
            count -= 1
        for _ in range(count):
            self._queue.append((now, PrintLine(self._typesetter.blank(), origin, self._take_raw())))

    def _feed_dots(self, rows: int, origin: Origin, now: float) -> None:
        self._note_writer(origin)
        self._end_line(now)
        self._queue.append((now, Feed(rows, origin, self._take_raw())))

    def _print_raster(self, command: Command, origin: Origin, now: float) -> None:
        self._note_writer(origin)
        self._end_line(now)
        mode, x_low, x_high, y_low, y_high = command.params[1:6]
        height = y_low + 256 * y_high
        rows = height * 2 if mode & 2 else height
        image = Raster(
            x_low + 256 * x_high, height, command.data, rows, scale=1 + (mode & 1), align=self._typesetter.align
        )
        self._queue.append((now, PrintRaster(image, origin, self._take_raw())))

    def _cut(self, command: Command, origin: Origin, now: float) -> None:
        self._end_line(now)
        if len(command.params) > 1:
            self._feed_dots(command.params[1], origin, now)
        self._queue.append((now, Cut(origin, self._take_raw(), self._spoiled)))
        self._spoiled = False
        self._writers.clear()

    def _take_raw(self) -> bytes:
        raw = bytes(self._raw)
        self._raw.clear()
        return raw

    def _note_writer(self, origin: Origin) -> None:
        """Watch for two who print on one paper at the same time."""
        writer = origin.connection
        if self._writers and writer != self._writers[-1]:
            others_open = any(self._is_open(other) for other in self._writers if other != writer)
            if writer in self._writers or others_open:
                self.concurrent_writers_seen = True
        if not self._writers or writer != self._writers[-1]:
            self._writers.append(writer)

    def _is_open(self, number: int) -> bool:
        connection = self._connections.get(number)
        return connection is not None and connection.open

    def _print(self, now: float) -> bool:
        printed = False
        while self._queue and not self.sensors.offline:
            queued_at, work = self._queue[0]
            if self._done_at is None:
                start = max(self._free_at, queued_at)
                self._done_at = start + self._duration(work)
                if not isinstance(work, Answer):
                    self._sheet.begin(work, start, self._stops)
            if self._done_at > now:
                break
            self._free_at, self._done_at = self._done_at, None
            self._queue.popleft()
            self._finish(work, self._free_at)
            printed = True
        return printed

    def _duration(self, work: Work) -> float:
        if isinstance(work, Cut):
            return self.settings.cut_s
        return work.rows / LINE_ROWS / self.settings.lines_per_s

    def _finish(self, work: Work, now: float) -> None:
        match work:
            case Answer():
                self._answer(work, now)
            case Cut():
                self._finish_cut(work, now)
            case PrintLine():
                self._sheet.finish(work)
                self._use_paper()
            case PrintRaster() | Feed():
                self._sheet.finish(work)
            case _:
                assert_never(work)

    def _use_paper(self) -> None:
        if self._lines_left is None:
            return
        self._lines_left -= 1
        if self._lines_left <= 0:
            self.paper_out()

    def _finish_cut(self, work: Cut, now: float) -> None:
        if self._jam_next_cut:
            self._jam_next_cut = False
            self._queue.appendleft((now, work))
            self.change("cutter jammed", cutter_error=True)
            return
        self._sheet.finish(work)
        if now - self._last_cut >= COUNTER_SAVED_AFTER:
            self._cuts_saved = self._cuts
        self._cuts += 1
        self._last_cut = now
        self._note(EventKind.COUNTER, 0, f"{self._cuts} cuts")
        paper = self._tear_off(EndedBy.CUT, now, work.spoiled)
        if self._reset_when is ResetWhen.AFTER_CUT and paper is not None:
            self._reset_when = None
            self._reset_writers(paper.connections)

    def _reset_writers(self, writers: Iterable[int]) -> None:
        for number in writers:
            connection = self._connections.get(number)
            if connection is not None:
                self._reset(connection)

    def _tear_off(self, ended_by: EndedBy, t_cut: float | None = None, spoiled: bool = False) -> Paper | None:
        """Turn the paper below the head into a record. Unless cut, a paper on which nothing happened is none."""
        if ended_by is not EndedBy.CUT:
            self._spoiled = False
            self._writers.clear()
            self._raw.clear()
        if self._sheet.blank:
            return None
        paper = self._sheet.tear_off(len(self.papers) + 1, self.name, ended_by, t_cut, spoiled)
        self._sheet = Sheet()
        self.papers.append(paper)
        self._note(EventKind.PAPER, paper.connection, f"paper {paper.sequence}, {ended_by.value}")
        self._slim_old_papers()
        return paper

    def _slim_old_papers(self) -> None:
        keep = self.settings.keep_raw
        if keep is not None and len(self.papers) > keep:
            old = len(self.papers) - keep - 1
            bitmaps = tuple(replace(raster, data=b"") for raster in self.papers[old].raster)
            self.papers[old] = replace(self.papers[old], raw=b"", raster=bitmaps)

    def _answer(self, answer: Answer, now: float) -> None:
        command = answer.command
        match command.kind:
            case Kind.FENCE:
                self._answer_fence(answer.connection, self.sensors.fence(command.params[0]))
            case Kind.IDENTITY:
                self._reply(answer.connection, self._identity(command.params[0]))
            case Kind.COUNTER:
                self._reply(answer.connection, self._counter(command.params))
            case _:
                self._answer_process_id(answer.connection, command.data, now)

    def _answer_process_id(self, number: int, data: bytes, now: float) -> None:
        """`GS ( H` function 48 with its four characters; anything else has no answer."""
        if data[:2] == b"\x30\x30" and is_process_id(data[2:]):
            self._echo(self.echoes.earned(Echo(number, data[2:]), now))

    def _echo(self, echoes: list[Echo]) -> None:
        for echo in echoes:
            self._reply(echo.connection, echo.raw)

    def _answer_fence(self, number: int, answer: bytes) -> None:
        connection = self._connections.get(number)
        if connection is not None and connection.answered_at_arrival:
            connection.answered_at_arrival -= 1
            return
        match self.fence_fault.take():
            case FenceFault.DOUBLED:
                answer *= 2
            case FenceFault.STALE:
                self._stale_fence = answer
            case FenceFault.LOST:
                answer = b""
            case FenceFault.AT_ARRIVAL | None:
                pass
        self._reply(number, answer)

    def _identity(self, n: int) -> bytes:
        identity = self.settings.identity
        numbers = {1: identity.model, 49: identity.model, 2: identity.kind, 50: identity.kind}
        texts = {65: identity.firmware, 66: identity.maker, 67: identity.name, 68: identity.serial}
        number, text = numbers.get(n), texts.get(n, "")
        if number is not None:
            return bytes([number])
        return b"\x5f" + text.encode("ascii") + b"\x00" if text else b""

    def _counter(self, params: bytes) -> bytes:
        """`GS g 2`: only the counter of cuts is kept."""
        if params[:2] == b"\x32\x00" and int.from_bytes(params[2:], "little") == CUT_COUNTER:
            return b"\x5f" + str(self._cuts).encode("ascii") + b"\x00"
        return b""

    def _switch_asb(self, mask: int, origin: Origin) -> None:
        self._asb = mask & 0x0F
        self._last_asb = self.sensors.automatic()
        if self._asb:
            self._reply(origin.connection, self._last_asb)

    def _push_asb(self) -> None:
        status = self.sensors.automatic()
        if self.powered and asb_differs(self._asb, self._last_asb, status):
            for connection in self._connections.values():
                if connection.open and self._served(connection):
                    self._reply(connection.number, status)
        self._last_asb = status

    def _reply(self, number: int, data: bytes) -> None:
        """Let an answer go out; empty = there is none."""
        if not data:
            return
        connection = self._connections.get(number)
        not_ready = self.settings.silent_when_not_ready and self.sensors.offline
        if self.silent or self.swallowing or not_ready or connection is None or connection.gone:
            self.reply_lost(number, data)
            return
        soiled_data = soiled(data, self.noise.take(), self.sensors.automatic(), self._chance)
        self._outbox.put(number, soiled_data, self._clock())

    def reply_lost(self, number: int, data: bytes) -> None:
        """An answer cannot be sent, or found no room among those that wait for a host that does not read."""
        self._note(EventKind.REPLY_LOST, number, data.hex(" "), data)

    def inject(self, data: bytes) -> None:
        """Send these bytes on every connection, as they are."""
        for connection in self._connections.values():
            if connection.open:
                self._outbox.put(connection.number, data, self._clock())

    def _release_replies(self, now: float) -> None:
        """Hand out the answers that are due. A hanging network side sends nothing."""
        if self.hanging or self.unreachable:
            return
        for piece in self._outbox.take(now):
            connection = self._connections.get(piece.connection)
            if connection is None or connection.gone:
                self.reply_lost(piece.connection, piece.data)
                continue
            self._note(EventKind.REPLY, piece.connection, piece.data.hex(" "), piece.data)
            self._actions.append(Send(piece.connection, piece.data))

    def status_answer(self) -> bytes:
        """What the status port answers to `ESC v`; empty = nothing. It has a computer of its own."""
        return self.sensors.automatic(self.settings.status_cutter_bit) if self.powered else b""

    def change(self, what: str, **sensors: bool) -> None:
        """Set sensors by name; the printer stops or goes on accordingly, and says so if automatic status is on."""
        was_offline = self.sensors.offline
        for sensor, value in sensors.items():
            setattr(self.sensors, sensor, value)
        self._note(EventKind.SENSOR, 0, what)
        if self.sensors.offline and not was_offline:
            self._pause()
            self._tell_offline()
        elif was_offline and not self.sensors.offline:
            self._resume()
        self._push_asb()

    def _tell_offline(self) -> None:
        """`GS ( H` function 49: to all, when it goes offline for a cause that it tells."""
        causes = self.sensors.causes()
        if not self._offline_response or not causes:
            return
        told = causes if self._offline_response == 2 else b""
        for connection in self._connections.values():
            if connection.open and self._served(connection):
                self._reply(connection.number, b"\x37\x23" + told + b"\x00")

    def foreign_print(self, lines: Iterable[str], *, initialise: bool = False) -> None:
        """Somebody else, on another interface, prints these lines and cuts. `initialise`: with an `ESC @` before.

        Like any other host's, the paper waits until the one that is being printed is cut or its sender has gone.
        """
        self._count += 1
        now = self._clock()
        foreigner = Connection(self._count, now, open=False, gone=True)
        self._connections[foreigner.number] = foreigner
        text = "".join(f"{line}\n" for line in lines).encode(_FOREIGN_PAGE, "replace")
        data = b"\x1b@" * initialise + text + b"\x1dV\x00"
        foreigner.nic.append(data, Origin(foreigner.number, now, self._stops))
        self._note(EventKind.CONNECT, foreigner.number, "another host prints")

    def paper_out(self, after_lines: int = 0) -> None:
        """The roll ends now, or when so many more lines have been printed."""
        if after_lines > 0:
            self._lines_left = after_lines
            return
        self._lines_left = None
        self.change("paper out", paper_end=True)

    def load_paper(self) -> None:
        """A full roll is put in."""
        self._lines_left = None
        self.change("paper loaded", paper_end=False, near_end=False)

    def cutter_error(self, *, at_next_cut: bool = False) -> None:
        """The cutter jams now, or when it is used next: the paper is out, but hangs on."""
        if at_next_cut:
            self._jam_next_cut = True
        else:
            self.change("cutter error", cutter_error=True)

    def mend_cutter(self) -> None:
        """The cutter is free, and does not jam at its next cut either."""
        self._jam_next_cut = False
        self.change("cutter mended", cutter_error=False)

    def reset_next(self, when: ResetWhen) -> None:
        """Break a connection off by RST, once."""
        self._reset_when = when

    def power_off(self) -> None:
        """Connections, buffers and modes are gone; connects are refused. The uncut paper becomes a record."""
        if not self.powered:
            return
        for connection in list(self._connections.values()):
            self._reset(connection)
        self._connections.clear()
        self._outbox.clear()
        self.echoes.forget()
        self._stale_fence = b""
        self.powered = False
        self._lose(0, self._receive.clear(), "power off")
        self._tear_off(EndedBy.POWER_LOSS)
        if self._clock() - self._last_cut >= COUNTER_SAVED_AFTER:
            self._cuts_saved = self._cuts
        self._cuts = self._cuts_saved
        self._note(EventKind.COUNTER, 0, f"{self._cuts} cuts")
        self.sensors.cutter_error = self.sensors.taken_offline = False
        self._boot()
        self._note(EventKind.SENSOR, 0, "power off")

    def power_on(self) -> None:
        """Start again with empty memory."""
        if not self.powered:
            self.powered = True
            self._notice_due = self.power_notice
            self._boot()
            self._note(EventKind.SENSOR, 0, "power on")

    def _pause(self) -> None:
        if self.sensors.cover_open and self.settings.cover_loses_line:
            self._lose_current_line()
        self._time_left = None if self._done_at is None else max(0.0, self._done_at - self._clock())

    def _lose_current_line(self) -> None:
        """The line under the head is torn away when the cover opens."""
        work = self._queue[0][1] if self._done_at is not None else None
        if not isinstance(work, PrintLine):
            return
        self._queue.popleft()
        self._done_at = None
        self._sheet.damage()
        self._note(EventKind.LOST, work.origin.connection, "line under an opened cover", size=len(work.raw))

    def _resume(self) -> None:
        self._stops += 1
        self._free_at = self._clock()
        if self._done_at is not None and self._time_left is not None:
            self._done_at = self._free_at + self._time_left
            self._sheet.hold()

    def _lose(self, number: int, count: int, why: str) -> None:
        if count:
            self._note(EventKind.LOST, number, why, size=count)

    def _note(self, kind: EventKind, connection: int, text: str, data: bytes = b"", size: int = 0) -> None:
        self.events.append(Event(self._clock(), kind, connection, text, data, size))
