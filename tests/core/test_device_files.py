"""Which device files rows may name."""

from __future__ import annotations

import pytest

from kps.core.address import FileAddress, FileKind
from kps.core.device_files import not_ours, parse_devices


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("/dev/usb/lp*", ("/dev/usb/lp*",)),
        (" /dev/usb/lp0 , /dev/serial/by-id/*,/dev/usb/lp0", ("/dev/usb/lp0", "/dev/serial/by-id/*")),
        ("none", ()),
        ("/dev/usb/lp*,none", ()),
    ],
)
def test_patterns_are_paths_below_dev(text: str, patterns: tuple[str, ...]) -> None:
    assert parse_devices(text) == patterns


@pytest.mark.parametrize(
    "text",
    ["", " , ", "/dev", "/dev/", "/etc/shadow", "lp0", "/dev/../etc/*", "/dev//lp0", "/dev/**", "/de*/lp0", "any"],
)
def test_what_is_no_pattern_below_dev_is_a_fault(text: str) -> None:
    with pytest.raises(ValueError, match="/dev"):
        parse_devices(text)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/dev/usb/lp0", True),
        ("/dev/usb/lp15", True),
        ("/dev/usb/hiddev0", False),
        ("/dev/usb/lp0/x", False),
        ("/dev/lp0", False),
        ("/dev/sda", False),
        ("/dev/serial/by-id/a", True),
        ("/dev/serial/by-path/a", False),
    ],
)
def test_a_star_stays_within_one_folder(path: str, allowed: bool) -> None:
    why = not_ours(FileAddress(FileKind.USB, path), ("/dev/usb/lp*", "/dev/serial/by-id/*"), "kps")
    assert why == ("" if allowed else f"its device {path} is outside of PRINTER_DEVICES")


def test_a_file_at_another_instance_is_not_ours() -> None:
    address = FileAddress(FileKind.USB, "/dev/usb/lp0", "bar")
    assert not_ours(address, ("/dev/usb/lp*",), "Bar") == ""
    assert not_ours(address, ("/dev/usb/lp*",), "kps") == "its device is at instance bar"
