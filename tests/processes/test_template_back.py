"""What the supervisor's loop does when there is a template again."""

from __future__ import annotations

import os
import select
from pathlib import Path

from kps import logs
from kps.core.settings import Settings
from kps.process.clocks import monotonic
from kps.supervisor.loop import Supervisor
from kps.supervisor.run_dir import RunDir

FAR_S = 1000.0


def test_who_was_refused_for_want_of_a_template_is_started_as_soon_as_there_is_one(tmp_path: Path) -> None:
    handle = logs.configure("supervisor", level="INFO", folder=None, file_format="text")
    supervisor = Supervisor(Settings(), RunDir(tmp_path / "run"), handle)
    template, dispatcher = supervisor._template, supervisor._children.dispatcher
    try:
        dispatcher.note_refusal("its template process is gone", 0.5)
        dispatcher.restart_at = due = monotonic() + FAR_S
        supervisor._starts.hear_template()
        pid = template.pid
        assert pid is not None, "it is made"
        assert dispatcher.restart_at == due, "but cannot fork yet"
        while template.state != "up":
            assert template.control is not None
            poll = select.poll()
            poll.register(template.control, select.POLLIN)
            assert poll.poll(20_000), "it says that it is ready"
            supervisor._starts.hear_template()
        assert dispatcher.restart_at < due - FAR_S / 2
    finally:
        template.close()
        handle.close()
    assert not os.path.exists(f"/proc/{pid}")
