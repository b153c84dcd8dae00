"""Where a printer is: one value from the POS's printer row to the open connection."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kps.core.networks import parse_address
from kps.core.tickets import PrinterKey

_TCP = re.compile(r"tcp://(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:/\[\]]+))(?::(?P<port>[0-9]{1,5}))?/?")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host, by IP address or by name, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """As people and PROOF_LEVELS write it."""
        return f"{self.host}:{self.port}"

    @property
    def uri(self) -> str:
        """With its transport: `tcp://10.0.0.5:9100`."""
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self}"

    @property
    def fault(self) -> str:
        """Why no printer can be there, whoever asks; '' if one can."""
        if not self.host:
            return "it has no address"
        if not 0 < self.port < 65536:
            return f"its port {self.port} does not exist"
        return ""

    @property
    def pos_ip(self) -> str:
        """As `printer_ip` has it in the POS's tables and in what its screens read."""
        return self.host

    @property
    def pos_port(self) -> int:
        """The same of `printer_port`."""
        return self.port

    def at(self, ip: str) -> TcpAddress:
        """The same with the address that its name has now."""
        return replace(self, host=ip)


DeviceAddress = TcpAddress
"""What a printer row can name."""


def device_address(text: str, port: int) -> DeviceAddress:
    """What a printer row says: its `printer_ip`, and its `printer_port` where the text names no other.

    Never raises: what no printer can have is said by `fault`.
    """
    found = _TCP.fullmatch(text)
    if found is not None:
        return TcpAddress(found["v6"] or found["host"], port if found["port"] is None else int(found["port"]))
    return TcpAddress(text, port)


def plain_address(text: str) -> str:
    """One spelling for each IP address: `::ffff:10.0.0.5` is 10.0.0.5. Raises ValueError for what is no address."""
    return parse_address(text).compressed


def printer_key(site: str, address: DeviceAddress) -> PrinterKey:
    """The name of a physical device. Raises ValueError for a host's name, which is no device yet."""
    return PrinterKey(f"{site}:{plain_address(address.host)}:{address.port}")
