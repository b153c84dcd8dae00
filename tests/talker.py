"""What is no printer: a camera, another service. It sends without end to whoever connects."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from types import TracebackType

NONSENSE = random.Random(1).randbytes(64 * 1024)


class Talker:
    """Sends `said` again and again on every connection, as fast as it is taken, and reads nothing."""

    def __init__(self, said: bytes = NONSENSE) -> None:
        self._said = said
        self._over = threading.Event()
        self._door = socket.create_server(("127.0.0.1", 0))
        self._door.settimeout(0.05)
        self._threads = [threading.Thread(target=self._accept, name="talker")]
        self.host, self.port = "127.0.0.1", int(self._door.getsockname()[1])
        self.connections = 0
        self.sent = 0

    def __enter__(self) -> Talker:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in list(self._threads):
            thread.join(10)
            assert not thread.is_alive()
        self._door.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._door.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._talk, args=(connection,), name="talker"))
                self._threads[-1].start()

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(0.05)
        with connection:
            while not self._over.is_set():
                try:
                    self.sent += connection.send(self._said)
                except TimeoutError:
                    continue
                except OSError:
                    return  # the other side has had enough
