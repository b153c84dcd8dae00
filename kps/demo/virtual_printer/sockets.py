"""The sockets of a virtual printer: they carry bytes to and from the machine, and follow what it wants done to them."""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import assert_never

from kps.demo.virtual_printer import cable
from kps.demo.virtual_printer.connection import Close, Reset, Send
from kps.demo.virtual_printer.faults import CHATTER
from kps.demo.virtual_printer.listener import Listener
from kps.demo.virtual_printer.machine import Machine
from kps.demo.virtual_printer.status_port import StatusPort

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_NOT_READ = 0
"""Poll mask of a socket that is not read now; the kernel still tells when the peer has reset it."""


@dataclass(slots=True)
class _Peer:
    """A connection of the machine with its socket, and the answers that its host has not taken yet."""

    number: int
    socket: socket.socket
    outgoing: bytearray = field(default_factory=bytearray)


class Sockets:
    """The listeners and connections of one printer. To be used by one thread at a time.

    `status_port` None = the printer has none; 0 = any free one. Raises OSError if an address cannot be had.
    """

    def __init__(self, machine: Machine, host: str, port: int, status_port: int | None) -> None:
        self._machine = machine
        self._reply_buffer = machine.settings.reply_buffer
        self._in_pieces = machine.settings.reply_chunk is not None
        self._peers: dict[int, _Peer] = {}
        self._abandoned: dict[int, socket.socket] = {}  # of connections that ended while the cable was pulled
        self._poll = select.poll()
        self._status: StatusPort | None = None
        self._listener = Listener(host, port, self._poll, machine.settings.so_rcvbuf)
        try:
            if status_port is not None:
                self._status = StatusPort(host, status_port, self._poll, machine.status_answer)
            self._sync_listeners()
        except OSError:
            self._close_listeners()
            raise
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._poll.register(self._wake_reader, select.POLLIN)

    @property
    def port(self) -> int:
        """The number of the printer's port."""
        return self._listener.port

    @property
    def status_port(self) -> int | None:
        """The number of its status port; None = it has none."""
        return None if self._status is None else self._status.port

    @property
    def listening(self) -> bool:
        """Whether connects are answered now; otherwise they are refused."""
        return self._listener.open

    def wake(self) -> None:
        """End a `wait`, or the next one, at once. May be called from any thread until `release`."""
        try:
            self._wake_writer.send(b"\0")
        except (BlockingIOError, BrokenPipeError):
            pass  # full: it is awake already; broken: it has ended

    def wait(self, until: float | None) -> list[tuple[int, int]]:
        """What `serve` is to be called with next; none if nothing came until this moment of `time.monotonic()`."""
        if until is None:
            return self._poll.poll()
        left = until - time.monotonic()
        # Rounded up, or the thread would spin; but what is due already must not wait for a millisecond.
        return self._poll.poll(0 if left <= 0 else int(left * 1000) + 1)

    def serve(self, descriptor: int, events: int) -> None:
        """Something came in, or can go out."""
        if descriptor == self._wake_reader.fileno():
            self._wake_reader.recv(4096)
        elif self._listener.owns(descriptor):
            self._accept()
        elif descriptor in self._peers:
            self._serve_peer(self._peers[descriptor], events)
        elif descriptor in self._abandoned:
            self._end(self._abandoned.pop(descriptor), reset=True)
        elif self._status is not None:
            self._status.serve(descriptor)

    def settle(self) -> None:
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
        self._sync_listeners()
        for peer in self._peers.values():
            self._poll.modify(peer.socket, self._interest(peer))

    def pull_cable(self) -> None:
        """Nothing gets through any more. Raises OSError where the system cannot do this."""
        if not self._machine.faults.unreachable:
            cable.pull(self._all())
            self._machine.faults.unreachable = True

    def plug_cable(self) -> None:
        """Ends `pull_cable`."""
        if self._machine.faults.unreachable:
            cable.plug(self._all())
            self._machine.faults.unreachable = False

    def close(self) -> None:
        """End everything. `wake` may still be called."""
        self.plug_cable()
        for peer in list(self._peers.values()):
            self._drop(peer.number)
        for abandoned in self._abandoned.values():
            self._end(abandoned, reset=True)
        self._abandoned.clear()
        self._close_listeners()
        self._wake_reader.close()

    def release(self) -> None:
        """Nobody calls `wake` any more."""
        self._wake_writer.close()

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
                if self._in_pieces:
                    self._flush(peer)

    def _flush_all(self) -> None:
        for peer in list(self._peers.values()):
            self._flush(peer)

    def _flush(self, peer: _Peer) -> None:
        if not peer.outgoing:
            return
        self._push(peer)
        if overflow := bytes(peer.outgoing[self._reply_buffer :]):
            del peer.outgoing[self._reply_buffer :]
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
        reading = select.POLLIN if self._machine.room(peer.number) else _NOT_READ
        return reading | (select.POLLOUT if peer.outgoing or self._machine.talks_now else _NOT_READ)

    def _accept(self) -> None:
        accepted = self._listener.accept()
        if accepted is None:
            return
        if self._machine.faults.unreachable:  # it had got through before the cable was pulled
            cable.pull([accepted])
        peer = _Peer(self._machine.connect(), accepted)
        self._peers[accepted.fileno()] = peer
        self._poll.register(accepted, _NOT_READ)

    def _drop(self, number: int, *, reset: bool = False) -> None:
        for descriptor, peer in list(self._peers.items()):
            if peer.number != number:
                continue
            del self._peers[descriptor]
            if self._machine.faults.unreachable:  # the host cannot be informed
                self._abandoned[descriptor] = peer.socket
                self._poll.modify(peer.socket, select.POLLIN)
            else:
                self._end(peer.socket, reset=reset)

    def _end(self, ended: socket.socket, *, reset: bool) -> None:
        self._poll.unregister(ended)
        if reset:
            ended.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        ended.close()

    def _all(self) -> list[socket.socket]:
        """Every socket that the network reaches."""
        status = [] if self._status is None else self._status.sockets()
        peers = (peer.socket for peer in self._peers.values())
        return [self._listener.socket, *status, *peers, *self._abandoned.values()]

    def _sync_listeners(self) -> None:
        """Listen, or refuse, as the machine wants; without a cable no host would notice."""
        if self._machine.faults.unreachable:
            return
        self._listener.set_open(self._machine.listening)
        if self._status is not None:
            self._status.set_open(self._machine.powered)

    def _close_listeners(self) -> None:
        self._listener.close()
        if self._status is not None:
            self._status.close()
