"""From an address to an open connection. Nothing else in this package knows which kinds of address there are."""

from __future__ import annotations

from typing import assert_never

from kps.core.address import DeviceAddress, FileAddress, TcpAddress
from kps.device import files, tcp
from kps.device.link import Link
from kps.device.transport import Pulse


def open_link(address: DeviceAddress, *, limit_s: float, pulse: Pulse) -> Link:
    """A connection to the printer at this address, within the limit. Raises Unreachable."""
    match address:
        case TcpAddress():
            return Link(tcp.connect(address, limit_s=limit_s, pulse=pulse))
        case FileAddress():
            return Link(files.open_file(address))
        case unexpected:
            assert_never(unexpected)
