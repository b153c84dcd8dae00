"""A loopback listener that plays one script per connection: what a printer's network side may do to us."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator

FINE = (0x12, 0x12, 0x12, 0x12)
PAPER_OUT = (0x1A, 0x32, 0x12, 0x7E)
COVER_OPEN = (0x1A, 0x16, 0x12, 0x12)
LIMIT_S = 20.0

Script = Callable[["ScriptedPrinter", socket.socket], None]


class ScriptedPrinter:
    """Connection n plays script n; the last script plays for all further ones."""

    def __init__(self, *scripts: Script, receive_buffer: int | None = None) -> None:
        self.answers: tuple[int, int, int, int] | None = FINE
        """To DLE EOT 1..4; None = silent."""
        self.paper = bytearray()
        """What came and was no question."""
        self.questions: list[int] = []
        self.connections = 0
        self.over = threading.Event()
        self._changed = threading.Condition()
        self._scripts = scripts
        self._errors: list[Exception] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(8)
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until the condition holds; fails after LIMIT_S."""
        with self._changed:
            assert self._changed.wait_for(condition, LIMIT_S), "the condition never came true"

    def changed(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def stop(self) -> None:
        self.over.set()
        for thread in list(self._threads):
            thread.join(LIMIT_S)
            assert not thread.is_alive()
        self._listener.close()
        if self._errors:
            raise self._errors[0]

    def _start(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except (OSError, AssertionError) as error:  # `stop` raises it where pytest sees it
                self._errors.append(error)

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                connection.settimeout(0.02)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                script = self._scripts[min(self.connections, len(self._scripts) - 1)]
                self.connections += 1
                self._start(lambda conn=connection, play=script: self._play(conn, play))  # type: ignore[misc]

    def _play(self, connection: socket.socket, script: Script) -> None:
        with connection:
            script(self, connection)
        self.changed()

    def incoming(self, connection: socket.socket) -> Iterator[bytes]:
        """Portions as they come, until the peer ends or the test is over."""
        while not self.over.is_set():
            try:
                data = connection.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                return
            if not data:
                return
            yield data


def oblige(printer: ScriptedPrinter, connection: socket.socket) -> None:
    """Read everything, answer what is asked, end when the peer ends."""
    for _ in obliging(printer, connection):
        pass


def obliging(printer: ScriptedPrinter, connection: socket.socket) -> Iterator[int]:
    """The same, giving the script its turn (and the bytes of tickets so far) after each portion."""
    rest = b""
    for data in printer.incoming(connection):
        rest = _take(printer, connection, rest + data)
        printer.changed()
        yield len(printer.paper)


def _take(printer: ScriptedPrinter, connection: socket.socket, data: bytes) -> bytes:
    while data:
        at = data.find(b"\x10")
        if at < 0:
            printer.paper += data
            return b""
        printer.paper += data[:at]
        data = data[at:]
        if len(data) < 3:
            return data
        assert data[1] == 4, "the tickets of these tests hold no other DLE"
        printer.questions.append(data[2])
        if printer.answers is not None:
            connection.sendall(bytes((printer.answers[data[2] - 1],)))
        data = data[3:]
    return data


def never_read(printer: ScriptedPrinter, connection: socket.socket) -> None:
    """Accept and look away."""
    printer.over.wait(LIMIT_S)


def reset(connection: socket.socket) -> None:
    """End the connection with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def go_deaf(connection: socket.socket) -> None:
    """Drop every arriving segment before TCP sees it: to the sender the host is dead (a one-line socket filter)."""
    until = time.monotonic() + LIMIT_S
    while _unacknowledged(connection):  # else this side would send again, and so be heard
        assert time.monotonic() < until
    drop_all = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(drop_all))
    connection.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER


def _unacknowledged(connection: socket.socket) -> int:
    answer = bytearray(4)
    fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, answer)
    return int(struct.unpack("i", answer)[0])
