"""Host names of printers to addresses, without ever making the caller wait for a name server."""

from __future__ import annotations

import queue
import socket
import threading
import time

from kps.core.routing import plain_address

REFRESH_S = 60.0
RETRY_S = 5.0


class Resolver:
    """Looks names up in a thread of its own; an address text is its own answer."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str | None, float]] = {}
        self._asked: set[str] = set()
        self._inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._answered = threading.Event()
        self._thread: threading.Thread | None = None

    def address(self, host: str) -> str | None:
        """The address; None = not known (yet). An answer that has grown old is asked for again in the background."""
        try:
            return plain_address(host)
        except ValueError:
            pass
        found, at = self._known.get(host, (None, float("-inf")))
        if time.monotonic() - at > (REFRESH_S if found else RETRY_S) and host not in self._asked:
            self._ask(host)
        return found

    def wait_for(self, hosts: list[str], limit_s: float) -> None:
        """Give names that have never been looked up a moment."""
        end = time.monotonic() + limit_s
        while any(self.address(host) is None and host not in self._known for host in hosts):
            left = end - time.monotonic()
            if left <= 0:
                return
            self._answered.wait(left)
            self._answered.clear()

    def stop(self) -> None:
        """End the thread, once it is done with the name it is looking up."""
        self._inbox.put(None)

    def _ask(self, host: str) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="resolver", daemon=True)
            self._thread.start()
        self._asked.add(host)
        self._inbox.put(host)

    def _work(self) -> None:
        while (host := self._inbox.get()) is not None:
            before = self._known.get(host, (None, 0.0))[0]
            # A name server that fails now does not take away the address that we have.
            self._known[host] = (_look_up(host) or before, time.monotonic())
            self._asked.discard(host)
            self._answered.set()


def _look_up(host: str) -> str | None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    addresses = sorted({str(entry[4][0]) for entry in found}, key=lambda text: (":" in text, text))
    return addresses[0] if addresses else None
