"""A mailbox between dispatcher and printer, handed over by the supervisor's own loop."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path

from kps import logs
from kps.core.address import TcpAddress
from kps.core.printer_lifecycle import Process
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey
from kps.printer.config import DeviceConfig
from kps.process.channels import Channel
from kps.supervisor.children import Child
from kps.supervisor.loop import Supervisor
from kps.supervisor.printers import Printer
from kps.supervisor.run_dir import RunDir


def test_each_printer_has_a_mailbox_also_where_the_dispatcher_reads_late(tmp_path: Path) -> None:
    """The frame that finds the pipe full keeps its end until the pipe is read."""
    handle = logs.configure("supervisor", level="INFO", folder=None, file_format="text")
    supervisor = Supervisor(Settings(), RunDir(tmp_path / "run"), handle)
    ours, theirs = Pipe()
    dispatcher, reader = supervisor._children.dispatcher, Channel(theirs)
    dispatcher.control, dispatcher.state, dispatcher.generation = Channel(ours), Process.UP, 1
    printers = []
    try:
        for number in range(400):
            ours, theirs = Pipe()
            address = TcpAddress("127.0.0.1", 9100)
            config = DeviceConfig(PrinterKey(f"k{number}"), f"k{number}", address, 1.0, (number,), ())
            child = Child.new(supervisor._shared, config.name, "printer")
            child.control, child.state = Channel(ours), Process.UP
            supervisor._children.printers[config.key] = Printer(config, child, epoch=1)
            printers.append(Channel(theirs))

        arrived = set()
        while len(arrived) < 400:
            supervisor._mailboxes.make(supervisor._children.printers.values(), 0.0)
            supervisor._flush_children()
            before = len(arrived)
            while (message := reader.receive()) is not None:
                reader.receive_end().close()
                arrived.add(message[1])
            assert len(arrived) > before, f"{400 - len(arrived)} printers have no mailbox"
    finally:
        for channel in (reader, dispatcher.control, *printers):
            channel.close()
        for printer in supervisor._children.printers.values():
            assert printer.child.control is not None
            printer.child.control.close()
        handle.close()
