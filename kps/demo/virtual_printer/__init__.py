"""A believable ESC/POS network printer without paper: a test double, and a printer for demonstrations."""

from __future__ import annotations

from kps.demo.virtual_printer.console import main, picture, run
from kps.demo.virtual_printer.drawing import draw
from kps.demo.virtual_printer.faults import FenceFault, IdFault, Noise, ResetWhen
from kps.demo.virtual_printer.machine import Machine
from kps.demo.virtual_printer.records import Align, EndedBy, Event, EventKind, Line, Paper, Raster, Span
from kps.demo.virtual_printer.server import PrinterStuck, VirtualPrinter
from kps.demo.virtual_printer.settings import (
    ALL_CAPS,
    DEFAULT_CODE_PAGES,
    PROFILES,
    Cap,
    Connections,
    Identity,
    Overflow,
    Settings,
    Speed,
    Unknown,
    UnknownProfile,
    settings_for,
)

__all__ = [
    "ALL_CAPS",
    "DEFAULT_CODE_PAGES",
    "PROFILES",
    "Align",
    "Cap",
    "Connections",
    "EndedBy",
    "Event",
    "EventKind",
    "FenceFault",
    "IdFault",
    "Identity",
    "Line",
    "Machine",
    "Noise",
    "Overflow",
    "Paper",
    "PrinterStuck",
    "Raster",
    "ResetWhen",
    "Settings",
    "Span",
    "Speed",
    "Unknown",
    "UnknownProfile",
    "VirtualPrinter",
    "draw",
    "main",
    "picture",
    "run",
    "settings_for",
]
