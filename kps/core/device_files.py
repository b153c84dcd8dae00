"""Which device files a printer row may name: PRINTER_DEVICES, for rows what PRINTER_NETWORKS is for addresses."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from kps.core.address import FileAddress

NONE = "none"


def parse_devices(text: str) -> tuple[str, ...]:
    """A comma separated list of patterns of paths below /dev, or `none`. Raises ValueError.

    `*` and `?` stand for signs of one folder's name only.
    """
    found: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part.lower() == NONE:
            return ()
        folders = part.split("/")
        if not part.startswith("/dev/") or {"", ".", ".."} & set(folders[1:]) or "**" in part:
            raise ValueError(f"{part!r} is no path below /dev such as /dev/usb/lp*")
        found.append(part)
    if not found:
        raise ValueError("must name a path below /dev, or be none")
    return tuple(dict.fromkeys(found))


def is_allowed(path: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns has this path."""
    parts = path.split("/")
    return any(
        len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
        for wanted in (pattern.split("/") for pattern in patterns)
    )


def not_ours(address: FileAddress, patterns: Iterable[str], instance: str) -> str:
    """Why this instance must not open the file, in a few words; '' if it may, as far as the text tells."""
    if address.instance and address.instance != instance.lower():
        return f"its device is at instance {address.instance}"
    if not is_allowed(address.path, patterns):
        return f"its device {address.path} is outside of PRINTER_DEVICES"
    return ""
