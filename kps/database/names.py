"""Where the database is: the names in DB_HOST to addresses, within a limit.

libpq looks names up itself, and waits for silent name servers for 25 s and more, deaf to everybody.
So it is given the addresses; the names stay for its certificates and passwords.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FIRST_LIMIT_S = 2.0
"""So long a name that has never had an address is waited for; the next try takes the answer that has come meanwhile."""
LIMIT_S = 0.5
"""The same where the last address is at hand. A name server that works answers in a few milliseconds."""


class NoAddress(Exception):
    """None of the hosts has an address, as far as is known now; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database may be. `address` is '' where libpq needs none: a socket's folder, or what is an address."""

    host: str
    address: str
    old: bool = False
    """Whether that is what the name meant earlier: nobody has said so now."""


class _Lookup(threading.Thread):
    """One question to the name server; it may outlive whoever asked, since it cannot be told to hurry."""

    def __init__(self, host: str) -> None:
        super().__init__(name="name", daemon=True)
        self.host = host
        self.found: tuple[str, ...] = ()
        self.over = threading.Event()

    def run(self) -> None:
        self.found = _look_up(self.host)
        with _lock:
            if self.found:
                _known[self.host] = self.found
            del _asked[self.host]
        self.over.set()


_lock = threading.Lock()
_known: dict[str, tuple[str, ...]] = {}
"""The last good answer for each name of this process's settings."""
_asked: dict[str, _Lookup] = {}
"""One question at a time for each name, however many connections wait for it."""
_slow: set[str] = set()
"""Names whose last question had not been answered in time."""


def places(hosts: str, pulse: Callable[[], None] | None, pulse_s: float) -> list[Place]:
    """Where to connect, in the order of DB_HOST and of the name server's answers. Raises NoAddress.

    `pulse` is called at least every `pulse_s` seconds.
    """
    found: list[Place] = []
    lacking: list[str] = []
    for host in hosts.split(","):
        if _needs_no_address(host):
            found.append(Place(host, ""))
            continue
        addresses, old = _resolve(host, pulse, pulse_s)
        found += [Place(host, address, old) for address in addresses]
        if not addresses:
            lacking.append(host)
    if not found:
        raise NoAddress("; ".join(_why_not(host) for host in lacking))
    return found


def known() -> dict[str, tuple[str, ...]]:
    """The last good answers, for a process that is to begin with them."""
    with _lock:
        return dict(_known)


def addresses_of(hosts: str) -> list[str]:
    """All addresses where the database may be, as far as they are known; nobody is asked. A socket is on this host."""
    found: list[str] = []
    for host in hosts.split(","):
        if host and _needs_no_address(host):
            found.append("127.0.0.1" if host[0] in "/@" else host)
        else:
            found += known().get(host, ()) if host else ("127.0.0.1",)
    return found


def remember(answers: dict[str, tuple[str, ...]]) -> None:
    """Begin with what another process has been told."""
    with _lock:
        _known.update(answers)


def _why_not(host: str) -> str:
    if host in _slow:
        return f"database host {host}: no name server answers"
    return f"database host {host} cannot be resolved"


def _needs_no_address(host: str) -> bool:
    if not host or host[0] in "/@":
        return True
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, UnicodeError):
            continue
        return True
    return False


def _resolve(host: str, pulse: Callable[[], None] | None, pulse_s: float) -> tuple[Sequence[str], bool]:
    """The addresses, and whether they are old ones."""
    with _lock:
        asked, known = _asked.get(host), _known.get(host, ())
        fresh = asked is None
        if asked is None:
            asked = _asked[host] = _Lookup(host)
    if fresh:
        try:
            asked.start()
        except RuntimeError:  # no thread can be had now: as if nobody had answered
            with _lock:
                del _asked[host]
            return known, True
    elif known:
        # Somebody has waited for this question already.
        return known, True
    if not _over(asked, LIMIT_S if known else FIRST_LIMIT_S, pulse, pulse_s):
        _slow.add(host)
        return known, True
    if asked.found or fresh:
        _slow.discard(host)
    return asked.found or known, not asked.found


def _over(asked: _Lookup, limit_s: float, pulse: Callable[[], None] | None, pulse_s: float) -> bool:
    until = time.monotonic() + limit_s
    while not asked.over.wait(max(0.0, min(pulse_s, until - time.monotonic()))):
        if pulse is not None:
            pulse()
        if time.monotonic() >= until:
            return False
    return True


def _look_up(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: a label that IDNA cannot encode, such as an empty one
        return ()
    return tuple(dict.fromkeys([str(entry[4][0]) for entry in found]))
