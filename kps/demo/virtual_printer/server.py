"""A virtual printer on the network: one listener, one thread, one Machine."""

from __future__ import annotations

import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, assert_never

from kps.demo.virtual_printer.machine import Close, Machine, Reset, ResetWhen, Send
from kps.demo.virtual_printer.records import Event, Paper
from kps.demo.virtual_printer.sensors import Sensors
from kps.demo.virtual_printer.settings import Speed, settings_for

T = TypeVar("T")

_BACKLOG = 16
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


class VirtualPrinter:
    """A network printer in a thread of its own; use it as a context manager.

    `host` may be any address of this host, 127.x.y.z included; `port` 0 takes a free one. `profile` names one of
    PROFILES, `speed` is 'fast' (no time at all) or 'real'; `changes` are fields of Settings. All methods may be called
    from any thread; when a method returns, what it asked for is in force. The records stay readable after `stop()`.
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
        self._machine = Machine(self.settings, time.monotonic, name)
        self._calls: queue.SimpleQueue[_Call[Any]] = queue.SimpleQueue()
        self._changed = threading.Condition()  # its lock is held by whoever looks at the machine or changes it
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._door: socket.socket | None = None
        self._door_open = False
        self._peers: dict[int, _Peer] = {}
        self._poll = select.poll()

    def start(self) -> Self:
        """Listen and run. Raises OSError if the address cannot be had, RuntimeError at a second start."""
        if self._thread is not None:
            raise RuntimeError("a virtual printer is started once")
        self._door = self._bind()
        self.port = self._door.getsockname()[1]
        try:
            self._sync_door()
        except OSError:
            self._door.close()
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
            return self._door_open

    @property
    def bytes_in(self) -> int:
        """Bytes received so far, status requests included."""
        return self._machine.bytes_in

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
        """The text of paper n, from 1."""
        return self.papers[n - 1].text

    def texts(self) -> list[str]:
        """The text of every paper."""
        return [paper.text for paper in self.papers]

    def find(self, substring: str) -> list[Paper]:
        """The papers whose text contains this."""
        return [paper for paper in self.papers if substring in paper.text]

    def wait_paper(self, n: int = 1, timeout: float = 10.0) -> Paper:
        """Paper n, from 1, as soon as it is there. Raises TimeoutError."""
        self.wait_for(lambda: len(self.papers) >= n, timeout, f"paper {n}")
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
        """Somebody frees the cutter; a cut that hung is made."""
        self._call(lambda: self._machine.change("cutter mended", cutter_error=False))

    def go_offline(self) -> None:
        """Offline without a cause that a host can read."""
        self._call(lambda: self._machine.change("taken offline", taken_offline=True))

    def go_online(self) -> None:
        """Ends `go_offline`."""
        self._call(lambda: self._machine.change("online", taken_offline=False))

    def power_off(self) -> None:
        """Connections are reset, buffers are lost, connects are refused until `power_on`. The port stays ours."""
        self._call(self._machine.power_off)

    def power_on(self) -> None:
        """Listen again on the same port, with empty memory."""
        self._call(self._machine.power_on)

    def power_cycle(self) -> None:
        """Off and on: buffers, modes, automatic status, unsaved counters and connections are gone."""
        self.power_off()
        self.power_on()

    def hang(self, on: bool = True) -> None:
        """Connections are accepted, but nothing is read and nothing is answered."""
        self._call(lambda: setattr(self._machine, "hanging", on))

    def silent(self, on: bool = True) -> None:
        """Everything is printed, nothing is answered."""
        self._call(lambda: setattr(self._machine, "silent", on))

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
                    self._drop(number)
                case Reset(number):
                    self._drop(number, reset=True)
                case _:
                    assert_never(action)
        self._sync_door()
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
        elif self._door is not None and descriptor == self._door.fileno():
            self._accept(self._door)
        elif descriptor in self._peers:
            self._serve_peer(self._peers[descriptor], events)

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
                self._flush(peer)

    def _flush(self, peer: _Peer) -> None:
        try:
            sent = peer.socket.send(peer.outgoing)
        except BlockingIOError:
            return
        except OSError:
            self._lost(peer)
            return
        del peer.outgoing[:sent]

    def _lost(self, peer: _Peer) -> None:
        """The host has reset this connection."""
        self._machine.peer_closed(peer.number, reset=True)
        self._drop(peer.number)

    def _interest(self, peer: _Peer) -> int:
        reading = select.POLLIN if self._machine.room(peer.number) else _HOLD
        return reading | (select.POLLOUT if peer.outgoing else _HOLD)

    def _accept(self, door: socket.socket) -> None:
        try:
            accepted, _ = door.accept()
        except (BlockingIOError, ConnectionError):
            return
        accepted.setblocking(False)
        peer = _Peer(self._machine.connect(), accepted)
        self._peers[accepted.fileno()] = peer
        self._poll.register(accepted, _HOLD)

    def _drop(self, number: int, *, reset: bool = False) -> None:
        for descriptor, peer in list(self._peers.items()):
            if peer.number != number:
                continue
            del self._peers[descriptor]
            self._poll.unregister(descriptor)
            if reset:
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            peer.socket.close()

    def _bind(self) -> socket.socket:
        """Our address, not listening yet: connects are refused, and nobody else gets the port."""
        door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.settings.so_rcvbuf)
            door.setblocking(False)
            door.bind((self.host, self.port))
        except OSError:
            door.close()
            raise
        return door

    def _sync_door(self) -> None:
        """Listen, or refuse, as the machine wants."""
        assert self._door is not None
        if self._machine.listening == self._door_open:
            return
        if self._machine.listening:
            self._door.listen(_BACKLOG)
            self._poll.register(self._door, select.POLLIN)
        else:
            self._poll.unregister(self._door)
            self._door.close()
            self._door = self._bind()
        self._door_open = self._machine.listening

    def _close_all(self) -> None:
        with self._changed:
            for peer in list(self._peers.values()):
                self._drop(peer.number)
            if self._door is not None:
                self._door.close()
            self._wake_reader.close()
            self._machine.finish()
            self._run_calls(and_then=lambda: None)
            self._changed.notify_all()
