"""From an address to an open connection: the one place that knows which kinds of address there are."""

from __future__ import annotations

from kps.core.address import DeviceAddress
from kps.device import tcp
from kps.device.link import Link
from kps.device.transport import Pulse


def open_link(address: DeviceAddress, *, limit_s: float, pulse: Pulse) -> Link:
    """A connection to the printer at this address, within the limit. Raises Unreachable."""
    return Link(tcp.connect(address, limit_s=limit_s, pulse=pulse))
