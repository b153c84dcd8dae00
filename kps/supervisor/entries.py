"""Where a spawned child begins: only its own role is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kps.printer.config import DeviceConfig
    from kps.process.child import ChildStart


def dispatcher_entry(start: ChildStart) -> None:
    """The dispatcher process."""
    from kps.dispatcher.loop import main
    from kps.process.child import run

    run(start, main)


def printer_entry(start: ChildStart, config: DeviceConfig, epoch: int) -> None:
    """A printer process."""
    from kps.printer.loop import main
    from kps.process.child import run

    run(start, lambda tools: main(tools, config, epoch))
