"""Host names of printers to addresses, without ever making the caller wait for a name server.

The only place of the service that looks them up: printer processes are given addresses.
"""

from __future__ import annotations

import itertools
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kps.core.address import plain_address
from kps.core.networks import preferred
from kps.core.routing import Lookup

REFRESH_S = 60.0
RETRY_S = 5.0
PENDING_S = 2.0
"""A name that has never had an address counts as being looked up for so long, then as one that has none."""
MOST_THREADS = 8
"""Lookups at the same time: a silent name server keeps each for half a minute, and the others wait behind."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The last good address of a name (None = there was none yet), and when the last lookup ended."""

    address: str | None
    at: float


class Resolver:
    """Looks names up in threads of its own; an address text is its own answer.

    `news` is called, by such a thread, when a name has got an address, or another one.
    """

    def __init__(self, news: Callable[[], None] = lambda: None) -> None:
        self._news = news
        self._known: dict[str, _Answer] = {}
        self._asked: dict[str, float] = {}
        self._first_asked: dict[str, float] = {}
        self._inbox: queue.PriorityQueue[tuple[int, int, str]] = queue.PriorityQueue()
        self._count = itertools.count()
        self._answered = threading.Event()
        self._threads = 0

    def find(self, host: str) -> tuple[str | None, Lookup]:
        """The address if it is known, and what has become of the question.

        An answer that has grown old is asked for again in the background.
        """
        try:
            return plain_address(host), Lookup.DONE
        except ValueError:
            pass
        now = time.monotonic()
        known = self._known.get(host)
        address = None if known is None else known.address
        old = known is None or now - known.at > (RETRY_S if address is None else REFRESH_S)
        if old and host not in self._asked:
            self._ask(host, now, first=address is None)
        if address is not None:
            return address, Lookup.DONE
        waits = known is None and now - self._first_asked[host] < PENDING_S
        return None, Lookup.PENDING if waits else Lookup.FAILED

    def wait_for(self, hosts: list[str], limit_s: float) -> None:
        """Give names that have never been looked up a moment."""
        end = time.monotonic() + limit_s
        while any(self.find(host)[1] is Lookup.PENDING for host in hosts):
            left = end - time.monotonic()
            if left <= 0:
                return
            self._answered.wait(left)
            self._answered.clear()

    def stop(self) -> None:
        """End the threads, once they are done with the names they are looking up."""
        for _ in range(self._threads):
            self._inbox.put((-1, next(self._count), ""))

    def _ask(self, host: str, now: float, *, first: bool) -> None:
        self._first_asked.setdefault(host, now)
        if self._threads < min(MOST_THREADS, len(self._asked) + 1):
            try:
                threading.Thread(target=self._work, name="resolver", daemon=True).start()
                self._threads += 1
            except RuntimeError:  # no thread can be had now: those that there are do it, or it is asked for again
                if not self._threads:
                    return
        self._asked[host] = now
        # Names that nothing is known of go before those that are only to be looked up again.
        self._inbox.put((0 if first else 1, next(self._count), host))

    def _work(self) -> None:
        while host := self._inbox.get()[2]:
            known = self._known.get(host)
            before = None if known is None else known.address
            found = _look_up(host)
            # Neither a name server that fails now nor one that lists others too takes away the address that we have.
            address = before if before in found else preferred(found) or before
            self._known[host] = _Answer(address, time.monotonic())
            self._asked.pop(host, None)
            self._answered.set()
            if address != before:
                self._news()


def _look_up(host: str) -> set[str]:
    """All addresses; empty if there is none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {plain_address(str(entry[4][0])) for entry in found}
