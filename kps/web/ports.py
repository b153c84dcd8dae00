"""Opening a port to listen on; apart from the server, so that a port is ours before the server is loaded."""

from __future__ import annotations

import errno
import socket


class CannotListen(Exception):
    """The port cannot be opened: the address is not ours, or we have no right to it."""


class PortTaken(CannotListen):
    """Another program listens on this port; it may close it soon."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket: clients that connect wait until a server accepts them. Raises PortTaken, CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=host == "::")
    except OSError as error:
        kind = PortTaken if error.errno == errno.EADDRINUSE else CannotListen
        raise kind(f"cannot listen on {host}:{port}: {error.strerror}") from error
