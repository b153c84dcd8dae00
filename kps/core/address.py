"""Where a printer is: one value from the POS's printer row to the open connection.

| `printer_ip` in the row | what it names |
|---|---|
| `10.0.0.5`, `printer.local` | a host, with `printer_port` |
| `tcp://10.0.0.5:9100` | the same in one text |
| `usb:/dev/usb/lp0` | a USB printer at the host of KPS |
| `serial:/dev/serial/by-id/NAME?baud=19200` | a printer at a serial port there |
| `usb://INSTANCE/dev/usb/lp0` | one at the host of that instance, where two hosts have such a file |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from kps.core.networks import parse_address
from kps.core.tickets import PrinterKey

BAUD_RATES = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)
DEFAULT_BAUD = 9600

_TCP = re.compile(r"tcp://(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:/\[\]]+))(?::(?P<port>[0-9]{1,5}))?/?")
_FILE = re.compile(r"(?P<kind>usb|serial):(?://(?P<instance>[\w.-]*))?(?P<path>/[^?]*)(?:\?(?P<options>.*))?")
_PATH = re.compile(r"/dev(/(?!\.\.?(/|$))[\w.:+@,=#\\-]+)+", re.ASCII)


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
    def fresh(self) -> bool:
        """Whether a new connection hears nothing that was said to an earlier one."""
        return True

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


class FileKind(StrEnum):
    """What stands behind a device file."""

    USB = "usb"
    """A printer of the USB printer class, by the kernel's usblp."""
    SERIAL = "serial"
    """A serial port, a USB adapter for one, or a printer that poses as one."""


class Flow(StrEnum):
    """How a serial printer says that it takes no more."""

    HARDWARE = "hardware"
    """By a wire: the printer's DTR or RTS at our CTS."""
    SOFTWARE = "software"
    """By XON and XOFF."""
    NONE = "none"
    """Not at all: what comes too fast is lost."""


@dataclass(frozen=True, slots=True)
class FileAddress:
    """A device file at the host of one instance."""

    kind: FileKind
    path: str
    instance: str = ""
    """INSTANCE_NAME of the one that has it; '' = whoever does."""
    baud: int = DEFAULT_BAUD
    flow: Flow = Flow.HARDWARE
    fault: str = ""
    """Why it can be no printer's, whoever asks; '' if it can."""

    def __str__(self) -> str:
        """As people and PROOF_LEVELS write it."""
        options = [f"baud={self.baud}"] if self.baud != DEFAULT_BAUD else []
        options += [f"flow={self.flow}"] if self.flow is not Flow.HARDWARE else []
        return self.name + ("?" + "&".join(options) if options else "")

    @property
    def uri(self) -> str:
        """The same: it names its transport."""
        return str(self)

    @property
    def name(self) -> str:
        """Which device it is, without the settings of its line."""
        return f"{self.kind}:{f'//{self.instance}' if self.instance else ''}{self.path}"

    @property
    def fresh(self) -> bool:
        """A late answer to an earlier question waits in the line, whoever opens it."""
        return False

    @property
    def pos_ip(self) -> str:
        """As `printer_ip` has it."""
        return str(self)

    @property
    def pos_port(self) -> None:
        """It has none, whatever stands in the column."""
        return None


DeviceAddress = TcpAddress | FileAddress
"""What a printer row can name."""


def device_address(text: str, port: int) -> DeviceAddress:
    """What a printer row says: its `printer_ip`, and its `printer_port` where the text names no other.

    Never raises: what no printer can have is said by `fault`.
    """
    if (found := _TCP.fullmatch(text)) is not None:
        return TcpAddress(found["v6"] or found["host"], port if found["port"] is None else int(found["port"]))
    if text.startswith(tuple(f"{kind}:" for kind in FileKind)):
        return _file_address(text)
    return TcpAddress(text, port)


def _file_address(text: str) -> FileAddress:
    kind = FileKind(text.partition(":")[0])
    found = _FILE.fullmatch(text)
    if found is None or not _PATH.fullmatch(found["path"]):
        rest = text.partition(":")[2]
        return FileAddress(kind, rest, fault=f"its address {text!r} names no file below /dev")
    address = FileAddress(kind, found["path"], (found["instance"] or "").lower())
    for option in filter(None, (found["options"] or "").split("&")):
        name, _, value = option.partition("=")
        if kind is FileKind.SERIAL and name == "baud" and value in map(str, BAUD_RATES):
            address = replace(address, baud=int(value))
        elif kind is FileKind.SERIAL and name == "flow" and value in set(Flow):
            address = replace(address, flow=Flow(value))
        else:
            return replace(address, fault=f"its address has an option that is none: {option!r}")
    return address


def plain_address(text: str) -> str:
    """One spelling for each IP address: `::ffff:10.0.0.5` is 10.0.0.5. Raises ValueError for what is no address."""
    return parse_address(text).compressed


def printer_key(site: str, address: DeviceAddress) -> PrinterKey:
    """The name of a physical device. Raises ValueError for a host's name, which is no device yet."""
    if isinstance(address, FileAddress):
        return PrinterKey(f"{site}:{address.name}")
    return PrinterKey(f"{site}:{plain_address(address.host)}:{address.port}")
