"""A virtual printer on the network: one listener, one thread, one Machine."""

from __future__ import annotations

import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, assert_never

from kps.demo.virtual_printer import cable
from kps.demo.virtual_printer.connection import Close, Reset, ResetWhen, Send
from kps.demo.virtual_printer.door import Door
from kps.demo.virtual_printer.drawing import draw
from kps.demo.virtual_printer.faults import CHATTER, FenceFault, IdFault, Noise
from kps.demo.virtual_printer.machine import Machine
from kps.demo.virtual_printer.records import Event, Paper
from kps.demo.virtual_printer.sensors import Sensors
from kps.demo.virtual_printer.settings import Speed, settings_for
from kps.demo.virtual_printer.status_port import StatusPort

T = TypeVar("T")

_CALL_TIMEOUT = 10.0
_STOP_TIMEOUT = 10.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_HOLD = 0
"""Poll mask of a socket that is not read now; the kernel still tells when the peer has reset it."""


class PrinterStuck(RuntimeError):
    """The printer's thread did not answer or end in time: a fault of the virtual printer itself."""


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    """Something that another thread wants done in ours."""

    function: Callable[[], T]
    future: Future[T] = field(default_factory=Future)

    def run(self, and_then: Callable[[], None]) -> None:
        """Do it, then what must follow before the caller goes on; what it raises is the caller's."""
        try:
            value = self.function()
            and_then()
        except (OSError, ValueError) as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)


@dataclass(slots=True)
class _Peer:
    number: int
    socket: socket.socket
    outgoing: bytearray = field(default_factory=bytearray)


def _second(status_port: int | None, port: int) -> int | None:
    """The number to ask for: a free one beside a free one."""
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
        self._changed = threading.Condition()  # its lock is held by whoever looks at the machine or changes it
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._door: Door | None = None
        self._status: StatusPort | None = None
        self._peers: dict[int, _Peer] = {}
        self._abandoned: dict[int, socket.socket] = {}  # of connections that ended while the cable was pulled
        self._poll = select.poll()

    def start(self) -> Self:
        """Listen and run. Raises OSError if the address cannot be had, RuntimeError at a second start."""
        if self._thread is not None:
            raise RuntimeError("a virtual printer is started once")
        self._door = Door(self.host, self.port, self._poll, self.settings.so_rcvbuf)
        self.port = self._door.port
        try:
            if self.status_port is not None:
                self._status = StatusPort(self.host, self.status_port, self._poll, self._machine.status_answer)
                self.status_port = self._status.port
            self._sync_doors()
        except OSError:
            self._close_doors()
            raise
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._poll.register(self._wake_reader, select.POLLIN)
        self._thread = threading.Thread(target=self._work, name=f"virtual-printer-{self.name}", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close everything and end the thread. An uncut paper becomes a record. Harmless if not running."""
        thread = self._thread
        if thread is None or self._stopping:
            return
        self._stopping = True
        self._wake()
        thread.join(_STOP_TIMEOUT)
        if thread.is_alive():
            raise PrinterStuck(f"{self.name} does not stop")
        self._wake_writer.close()

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
            return self._door is not None and self._door.open

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
        """From the next power-on, `3B 31 00` is told to whoever connects first."""
        self._call(lambda: setattr(self._machine, "power_notice", on))

    def pull_cable(self) -> None:
        """Half-open connections: nothing is heard, acknowledged or said on the network; printing goes on.

        Raises OSError where the system cannot do this: it needs Linux, and newer ones want CAP_NET_ADMIN.
        """
        self._call(self._pull_cable)

    def plug_cable(self) -> None:
        """Ends `pull_cable`. Who uses a connection that has ended here meanwhile is reset."""
        self._call(self._plug_cable)

    def hang(self, on: bool = True) -> None:
        """Connections are accepted, but nothing is read and nothing is answered."""
        self._call(lambda: setattr(self._machine, "hanging", on))

    def silent(self, on: bool = True) -> None:
        """Everything is printed, nothing is answered."""
        self._call(lambda: setattr(self._machine, "silent", on))

    def swallow(self, on: bool = True) -> None:
        """Everything is read, nothing is printed, nothing is answered: half-open behind a proxy."""
        self._call(lambda: setattr(self._machine, "swallowing", on))

    def talk(self, on: bool = True) -> None:
        """It sends without end on every connection, besides all that it does."""
        self._call(lambda: setattr(self._machine, "talking", on))

    def id_fault(self, kind: IdFault | str | None, times: int | None = None) -> None:
        """What is wrong with the echoes of the next `times` process IDs (None = all); None ends it."""
        self._call(lambda: self._machine.echoes.fault.set(None if kind is None else IdFault(kind), times))

    def fence_fault(self, kind: FenceFault | str | None, times: int | None = None) -> None:
        """What is wrong with the answers to the next `times` `GS r` (None = all); None ends it."""
        self._call(lambda: self._machine.fence_fault.set(None if kind is None else FenceFault(kind), times))

    def noise(self, kind: Noise | str | None, times: int | None = None) -> None:
        """What comes along with the next `times` answers (None = all); None ends it."""
        self._call(lambda: self._machine.noise.set(None if kind is None else Noise(kind), times))

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
        self._call(lambda: self._machine.reset_next(ResetWhen(when)))

    def _call(self, function: Callable[[], T]) -> T:
        """Run this in the printer's thread and wait until its effects are in force."""
        if self._thread is None or not self._thread.is_alive():
            return function()
        call = _Call(function)
        self._calls.put(call)
        self._wake()
        try:
            return call.future.result(_CALL_TIMEOUT)
        except TimeoutError as error:
            raise PrinterStuck(f"{self.name} does not answer") from error

    def _wake(self) -> None:
        try:
            self._wake_writer.send(b"\0")
        except (BlockingIOError, BrokenPipeError):
            pass  # full: it is awake already; broken: it has ended

    def _work(self) -> None:
        try:
            while not self._stopping:
                with self._changed:
                    self._settle()
                    self._changed.notify_all()
                    timeout = self._timeout_ms()
                ready = self._poll.poll(timeout)
                with self._changed:
                    for descriptor, events in ready:
                        self._serve(descriptor, events)
                    self._run_calls(and_then=self._settle)
        finally:
            self._close_all()

    def _settle(self) -> None:
        """Let the machine do what it can, and the sockets follow."""
        self._machine.run()
        for action in self._machine.take_actions():
            match action:
                case Send(number, data):
                    self._send(number, data)
                case Close(number):
                    self._flush_all()
                    self._drop(number)
                case Reset(number):
                    self._drop(number, reset=True)
                case _:
                    assert_never(action)
        self._flush_all()
        if self._machine.talks_now:
            self._talk()
        self._sync_doors()
        for peer in self._peers.values():
            self._poll.modify(peer.socket, self._interest(peer))

    def _timeout_ms(self) -> int | None:
        wake = self._machine.next_wake()
        if wake is None:
            return None
        left = wake - time.monotonic()
        # Rounded up, or the thread would spin; but what is due already must not wait for a millisecond.
        return 0 if left <= 0 else int(left * 1000) + 1

    def _run_calls(self, and_then: Callable[[], None]) -> None:
        while not self._calls.empty():
            self._calls.get().run(and_then)

    def _serve(self, descriptor: int, events: int) -> None:
        if descriptor == self._wake_reader.fileno():
            self._wake_reader.recv(4096)
        elif self._door is not None and self._door.owns(descriptor):
            self._accept(self._door)
        elif descriptor in self._peers:
            self._serve_peer(self._peers[descriptor], events)
        elif descriptor in self._abandoned:
            self._end(self._abandoned.pop(descriptor), reset=True)
        elif self._status is not None:
            self._status.serve(descriptor)

    def _serve_peer(self, peer: _Peer, events: int) -> None:
        if events & select.POLLIN and self._machine.room(peer.number):
            self._read(peer)
        elif events & (select.POLLERR | select.POLLHUP):
            self._lost(peer)
        elif events & select.POLLOUT:
            self._flush(peer)

    def _read(self, peer: _Peer) -> None:
        try:
            data = peer.socket.recv(self._machine.room(peer.number))
        except BlockingIOError:
            return
        except OSError:
            self._lost(peer)
            return
        if data:
            self._machine.receive(peer.number, data)
        else:
            self._machine.peer_closed(peer.number)

    def _send(self, number: int, data: bytes) -> None:
        for peer in list(self._peers.values()):
            if peer.number == number:
                peer.outgoing += data
                if self.settings.reply_chunk is not None:
                    self._flush(peer)

    def _flush_all(self) -> None:
        for peer in list(self._peers.values()):
            self._flush(peer)

    def _flush(self, peer: _Peer) -> None:
        if not peer.outgoing:
            return
        self._push(peer)
        if overflow := bytes(peer.outgoing[self.settings.reply_buffer :]):
            del peer.outgoing[self.settings.reply_buffer :]
            self._machine.reply_lost(peer.number, overflow)

    def _push(self, peer: _Peer) -> None:
        try:
            sent = peer.socket.send(peer.outgoing)
        except BlockingIOError:
            return
        except OSError:
            self._lost(peer)
            return
        del peer.outgoing[:sent]

    def _talk(self) -> None:
        """Between answers, as much as each host takes."""
        for peer in [peer for peer in self._peers.values() if not peer.outgoing]:
            try:
                peer.socket.send(CHATTER)
            except BlockingIOError:
                continue
            except OSError:
                self._lost(peer)

    def _lost(self, peer: _Peer) -> None:
        """The host has reset this connection."""
        self._machine.peer_closed(peer.number, reset=True)
        self._drop(peer.number)

    def _interest(self, peer: _Peer) -> int:
        reading = select.POLLIN if self._machine.room(peer.number) else _HOLD
        return reading | (select.POLLOUT if peer.outgoing or self._machine.talks_now else _HOLD)

    def _accept(self, door: Door) -> None:
        accepted = door.accept()
        if accepted is None:
            return
        if self._machine.unreachable:  # it had got through before the cable was pulled
            cable.pull([accepted])
        peer = _Peer(self._machine.connect(), accepted)
        self._peers[accepted.fileno()] = peer
        self._poll.register(accepted, _HOLD)

    def _drop(self, number: int, *, reset: bool = False) -> None:
        for descriptor, peer in list(self._peers.items()):
            if peer.number != number:
                continue
            del self._peers[descriptor]
            if self._machine.unreachable:  # nobody can be told
                self._abandoned[descriptor] = peer.socket
                self._poll.modify(peer.socket, select.POLLIN)
            else:
                self._end(peer.socket, reset=reset)

    def _end(self, ended: socket.socket, *, reset: bool) -> None:
        self._poll.unregister(ended)
        if reset:
            ended.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        ended.close()

    def _pull_cable(self) -> None:
        if not self._machine.unreachable:
            cable.pull(self._sockets())
            self._machine.unreachable = True

    def _plug_cable(self) -> None:
        if self._machine.unreachable:
            cable.plug(self._sockets())
            self._machine.unreachable = False

    def _sockets(self) -> list[socket.socket]:
        """All that hear the network."""
        doors = [] if self._door is None else [self._door.socket]
        status = [] if self._status is None else self._status.sockets()
        return [*doors, *status, *(peer.socket for peer in self._peers.values()), *self._abandoned.values()]

    def _sync_doors(self) -> None:
        """Listen, or refuse, as the machine wants; without a cable nobody would hear it."""
        if self._machine.unreachable or self._door is None:
            return
        self._door.set_open(self._machine.listening)
        if self._status is not None:
            self._status.set_open(self._machine.powered)

    def _close_all(self) -> None:
        with self._changed:
            self._plug_cable()
            for peer in list(self._peers.values()):
                self._drop(peer.number)
            for abandoned in self._abandoned.values():
                self._end(abandoned, reset=True)
            self._abandoned.clear()
            self._close_doors()
            self._wake_reader.close()
            self._machine.finish()
            self._run_calls(and_then=lambda: None)
            self._changed.notify_all()

    def _close_doors(self) -> None:
        if self._door is not None:
            self._door.close()
        if self._status is not None:
            self._status.close()
