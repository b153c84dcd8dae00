"""Where the children of a supervisor begin, and their template: all that any of them needs is imported here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final, NoReturn

import kps.dispatcher.loop
import kps.printer.loop
from kps.paper.escpos import warm_up
from kps.process.channels import Channel
from kps.process.child import ChildStart, run
from kps.process.shared_stats import ChildCells, SharedStats
from kps.process.template import Entry, freeze, serve

if TYPE_CHECKING:
    from kps.printer.config import DeviceConfig


def dispatcher_main(start: ChildStart, control: Channel, pair: ChildCells) -> None:
    """The dispatcher process."""
    run(start, control, pair, kps.dispatcher.loop.main)


def printer_main(start: ChildStart, control: Channel, pair: ChildCells, config: DeviceConfig, epoch: int) -> None:
    """A printer process."""
    run(start, control, pair, lambda tools: kps.printer.loop.main(tools, config, epoch))


ENTRIES: Final[dict[str, Entry]] = {"dispatcher": dispatcher_main, "printer": printer_main}
"""Kind of child -> where it begins."""


def _import_drawing() -> None:
    """What draws, but no font yet: which there are, the settings say."""
    for module in ("PIL.Image", "PIL.ImageChops", "PIL.ImageDraw", "uharfbuzz", "kps.paper.raster", "kps.paper.ink"):
        importlib.import_module(module)


STEPS: Final = (warm_up, _import_drawing)
"""What a printer process would otherwise load when it begins, or when it first draws."""


def template_main(control: int, shared: int) -> NoReturn:
    """A template in an interpreter of its own; it takes over both descriptors."""
    mapped = SharedStats(shared)
    freeze()
    serve(Channel.of_descriptor(control), mapped, ENTRIES, STEPS)
