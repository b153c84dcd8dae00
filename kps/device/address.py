"""A printer's host, as a row of the POS names it -> socket addresses to connect to."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Callable

from kps.core.address import DeviceAddress, FileAddress
from kps.core.networks import preferred
from kps.device.transport import SLICE_S

Address = tuple[socket.AddressFamily, tuple[str, int]]


class Unresolvable(Exception):
    """The host name has no address, or the resolver did not answer in time, or the port is no port."""


def resolved(address: DeviceAddress, *, limit_s: float) -> DeviceAddress:
    """The same address with its host name replaced by an IP address, which tells one device from another.

    Raises Unresolvable.
    """
    if isinstance(address, FileAddress):
        return address
    found = addresses(address.host, address.port, limit_s=limit_s, pulse=lambda: None)
    return address.at(preferred(ip for _, (ip, _) in found))


def addresses(host: str, port: int, *, limit_s: float, pulse: Callable[[], None]) -> list[Address]:
    """Where to connect, best first. No resolver is asked about an IP address. Raises Unresolvable.

    A lookup has no limit of its own, so a name is looked up in a thread, which may outlive ours.
    """
    if not 0 < port < 65536:
        raise Unresolvable(f"port {port}")
    literal = _literal(host, port)
    if literal is not None:
        return [literal]
    answer: queue.SimpleQueue[list[Address]] = queue.SimpleQueue()
    try:
        threading.Thread(target=lambda: answer.put(_look_up(host, port)), daemon=True, name="resolver").start()
    except RuntimeError as error:  # the host allows no further thread now
        raise Unresolvable(host) from error
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        pulse()
        try:
            found = answer.get(timeout=SLICE_S)
        except queue.Empty:
            continue
        if found:
            return found
        break
    raise Unresolvable(host)


def _literal(host: str, port: int) -> Address | None:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return (socket.AF_INET if version == 4 else socket.AF_INET6), (host, port)


def _look_up(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: a label that IDNA cannot encode, such as an empty one
        return []
    return [
        (family, (str(where[0]), port))
        for family, _, _, _, where in found
        if family in (socket.AF_INET, socket.AF_INET6)
    ]
