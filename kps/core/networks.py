"""Which addresses a printer may have: printer rows are written by others, and must not aim us at just anything."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from kps.core.settings import Settings

ANY = "any"
PRIVATE = "private"
_PRIVATE = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8",
    "fc00::/7", "fe80::/10", "::1/128",
)  # fmt: skip
"""Private, shared (which VPNs use), link-local and loopback ranges: RFC 1918, 6598, 3927, 4193, 4291."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(text: str) -> tuple[str, ...]:
    """A comma separated list of networks, `private` or `any`, in one spelling. Raises ValueError."""
    found: list[str] = []
    for part in filter(None, (part.strip().lower() for part in text.split(","))):
        if part == ANY:
            return (ANY,)
        found.append(part if part == PRIVATE else _network(part).compressed)
    if not found:
        raise ValueError("must name a network, or be private or any")
    return tuple(dict.fromkeys(found))


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"{text!r} is no network such as 192.168.0.0/16") from error


def parse_address(text: str) -> Address:
    """An IP address; `::ffff:10.0.0.5` is 10.0.0.5. Raises ValueError."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@lru_cache(4)
def _spelt_out(names: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple([_network(text) for name in names for text in (_PRIVATE if name == PRIVATE else (name,))])


def preferred(texts: Iterable[str]) -> str:
    """Which of a name's addresses its printer is known by, whoever asks and in whatever order they came; '' of none."""
    return min((parse_address(text).compressed for text in texts), key=lambda text: (":" in text, text), default="")


@dataclass(frozen=True, slots=True)
class Reach:
    """Where printers may be, and where they can not be."""

    networks: tuple[str, ...]
    """As `parse_networks` gives them."""
    database: frozenset[str]
    """Addresses of the database's host."""
    database_port: int
    http_host: str
    http_ports: frozenset[int]
    """Our own."""

    @classmethod
    def of(cls, settings: Settings, database: Iterable[str]) -> Reach:
        """By the settings; `database` has the addresses of its host, as far as they are known."""
        ports = frozenset({settings.health_port, settings.widget_port} - {0})
        found = frozenset(database)
        return cls(settings.printer_networks, found, settings.database.port, settings.health_host, ports)

    def refusal(self, text: str, port: int) -> str:
        """Why no printer may be at this IP address and port, in a few words; '' if one may."""
        address = parse_address(text)
        if address.is_unspecified or address.is_multicast or _is_reserved(address):
            return f"its address {text} can be no printer's"
        if isinstance(address, ipaddress.IPv6Address) and address.is_link_local and not address.scope_id:
            return f"its address {text} is link-local and needs a zone, such as {text}%eth0"
        if port == self.database_port and any(_same_host(address, parse_address(other)) for other in self.database):
            return f"its address {text}:{port} is the database's"
        if port in self.http_ports and address.is_loopback and self._listens_on(address):
            return f"its address {text}:{port} is this service's own"
        if self.networks != (ANY,) and not any(address in network for network in _spelt_out(self.networks)):
            return f"its address {text} is outside of PRINTER_NETWORKS"
        return ""

    def _listens_on(self, address: Address) -> bool:
        try:
            here = parse_address(self.http_host)
        except ValueError:  # a name such as localhost
            return True
        return here.is_unspecified or here == address


def _is_reserved(address: Address) -> bool:
    """0.0.0.0/8 is this host and nobody, 240.0.0.0/4 has never been given out and ends in the broadcast address."""
    return isinstance(address, ipaddress.IPv4Address) and address.packed[0] in (0, *range(240, 256))


def _same_host(address: Address, other: Address) -> bool:
    return address == other or (address.is_loopback and other.is_loopback)
