"""Scenes of a template and its copies, each in a process of its own: it becomes the sub-reaper, as a supervisor does.

`python -m tests.process.template_scenes SCENE FOLDER`; it fails as an assertion does.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import random
import resource
import select
import signal
import sys
import uuid
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from kps.core.restart import TEMPLATE_ANSWERS_S
from kps.process.channels import Channel, PeerGone
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, Stats
from kps.supervisor import child_main
from kps.supervisor.template import Answer, CannotStart, Forked, first, reap_orphans
from tests.conftest import eventually

AT_LAST_S: Final = 20.0
"""Longer than anything here takes."""
ENDED: Final = 3
"""What a child exits with when its pipe has ended."""

# -- what the copies do --------------------------------------------------------------------------------------------


def _until_gone(control: Channel) -> None:
    """Say back what comes, until the peer is gone."""
    try:
        while (message := control.receive(AT_LAST_S)) is not None:
            control.send(message)
    except PeerGone:
        os._exit(ENDED)
    os._exit(4)


def echo(_start: Any, control: Channel, pair: Any) -> None:
    Stats(pair.stats).set(Cell.TICKET, os.getpid())
    _until_gone(control)


def leave(_start: Any, _control: Channel, _pair: Any, code: int) -> None:
    os._exit(code)


def fail(_start: Any, _control: Channel, _pair: Any, kind: str) -> None:
    raise {"OSError": OSError(errno.EIO, "the disk"), "PeerGone": PeerGone(), "SystemExit": SystemExit(0)}[kind]


def report(_start: Any, control: Channel, _pair: Any) -> None:
    control.send(
        ("report", os.getpid(), random.random(), uuid.uuid4().hex, gc.isenabled(), gc.get_freeze_count(), descriptors())
    )
    _until_gone(control)


# -- what the scenes look at ---------------------------------------------------------------------------------------


def descriptors(pid: int | str = "self") -> list[str]:
    """What each descriptor beyond the standard ones is."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(path.readlink())
        except FileNotFoundError:
            continue  # that of the listing itself
        if int(path.name) > 2:
            found.append(target.partition(":[")[0].removesuffix(" (deleted)"))
    return sorted(found)


def children(pid: int | str = "self") -> list[int]:
    """Its children, zombies included."""
    return [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text("utf-8").split()
    ]


def state(pid: int) -> str:
    """As in ps: R, S, T, Z ...; '' when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def gone(process: Forked) -> int:
    """Its exit code, as soon as it has one."""
    eventually(lambda: process.poll() is not None, timeout=AT_LAST_S, what="an exit code")
    code = process.poll()
    assert code is not None
    return code


class Family:
    """A template made as the supervisor makes it, with the copies of these scenes."""

    def __init__(self, folder: Path, steps: tuple[Callable[[], None], ...] = ()) -> None:
        self.folder = folder
        reap_orphans()
        child_main.ENTRIES.update(echo=echo, leave=leave, fail=fail, report=report)
        child_main.STEPS = steps  # type: ignore[misc]
        self.own = sorted([*descriptors(), "/memfd:kps-stats", "/memfd:kps-stats", "socket"])
        """What a template or a copy may have open: a mapping has a descriptor of its own."""
        self.template = first()
        self.cells = self.template.shared.take()
        assert self.answers() == []

    def answers(self) -> list[tuple[int, Answer, int]]:
        """What it says next: the answers, or nothing where it says that it is ready."""
        control = self.template.control
        assert control is not None
        poll = select.poll()
        poll.register(control, select.POLLIN)
        assert poll.poll(AT_LAST_S * 1000), "it says something"
        return list(self.template.answers())

    def ask(self, kind: str, *more: Any) -> tuple[int, Channel]:
        """The number of the request, and our end of the copy's pipe."""
        ours, theirs = Pipe()
        control = Channel(ours)
        return self.template.fork(kind, SimpleNamespace(cells=self.cells), more, theirs), control  # type: ignore[arg-type]

    def born(self, kind: str, *more: Any) -> tuple[Forked, Channel]:
        number, control = self.ask(kind, *more)
        ((answered, answer, pid),) = self.answers()
        assert (answered, answer) == (number, Answer.FORKED)
        return Forked(pid), control

    @property
    def pid(self) -> int:
        assert self.template.pid is not None
        return self.template.pid

    def kill_template(self) -> list[tuple[int, Answer, int]]:
        sentinel = self.template.sentinel
        assert sentinel is not None
        poll = select.poll()
        poll.register(sentinel, select.POLLIN)
        os.kill(self.pid, signal.SIGKILL)
        assert poll.poll(AT_LAST_S * 1000), "it has ended"
        found = list(self.template.answers())
        return found if self.template.pid is None else [*found, *self.template.look_after(monotonic())]

    def another(self) -> None:
        """The template that is made when there is none."""
        assert list(self.template.look_after(monotonic())) == []
        assert self.answers() == []
        assert self.template.state == "up"

    def end(self) -> None:
        """Nothing of it is left, be it dead."""
        self.template.close()
        eventually(self._nobody, timeout=AT_LAST_S, what="no child is left")

    def _nobody(self) -> bool:
        self.template.reap_others([])
        return not children()


def said(control: Channel, word: str) -> None:
    """The copy works: it answers."""
    control.send((word,))
    assert control.receive(AT_LAST_S) == (word,)


# -- the scenes ----------------------------------------------------------------------------------------------------


def exit_codes_are_told_and_nobody_is_left(folder: Path) -> None:
    family = Family(folder)
    for code in (0, 1, 7):
        process, _ = family.born("leave", code)
        assert gone(process) == code
    for number in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV):
        process, control = family.born("echo")
        said(control, "there")
        process.signal(number)
        assert gone(process) == -number
    assert children() == [family.pid], "each copy is reaped"
    assert children(family.pid) == [], "and each process between"
    family.end()


def the_exit_code_of_a_copy_that_is_dead_before_we_hear_of_its_birth_is_kept(folder: Path) -> None:
    family = Family(folder)
    family.ask("leave", 7)
    eventually(lambda: "Z" in map(state, children()), timeout=AT_LAST_S, what="it is dead")
    family.template.reap_others([family.pid])
    ((_, _, pid),) = family.answers()
    assert gone(Forked(pid)) == 7
    family.end()


def copies_outlive_their_template_and_are_reaped_with_their_exit_codes(folder: Path) -> None:
    family = Family(folder)
    one, its = family.born("echo")
    other, others = family.born("echo")
    dead = family.pid
    assert family.kill_template() == []
    assert state(dead) == "", "it is reaped itself"
    for control in (its, others):
        said(control, "still there")
    one.signal(signal.SIGKILL)
    assert gone(one) == -signal.SIGKILL
    others.close()
    assert gone(other) == ENDED
    assert (family.template.last_exit, family.template.restarts) == ("SIGKILL, perhaps out of memory", {"signal": 1})
    family.end()


def a_new_template_forks_and_its_copies_are_ours(folder: Path) -> None:
    family = Family(folder)
    old = family.pid
    assert family.kill_template() == []
    assert family.template.booting, "whoever waits for a copy waits for it"
    family.another()
    assert family.pid != old
    assert descriptors(family.pid) == family.own
    assert len(list(Path(f"/proc/{family.pid}/task").iterdir())) == 1
    process, _ = family.born("dispatcher")  # as what this scene gives it is none, it fails
    assert gone(process) == 1
    assert children() == [family.pid]
    family.end()


def _hold(folder: Path) -> None:
    """From now on each process stops when it has been forked, as long as the file `hold` is there."""
    os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGSTOP) if _held(folder) else None)


def _held(folder: Path) -> bool:
    return (folder / "hold").exists()


def _stopped_between(family: Family) -> int:
    """The process between, which has been forked and has not forked yet."""
    found = eventually(lambda: children(family.pid), timeout=AT_LAST_S, what="a process between")
    eventually(lambda: state(found[0]) == "T", timeout=AT_LAST_S, what="it is stopped")
    return found[0]


def a_template_killed_in_the_middle_of_a_fork_leaves_nobody(folder: Path) -> None:
    _hold(folder)
    family = Family(folder)
    (folder / "hold").touch()
    number, control = family.ask("echo")
    between = _stopped_between(family)
    assert family.kill_template() == [(number, Answer.LOST, 0)]
    assert children() == [between], "it is ours now"
    control.close()  # nobody waits for this copy any more
    (folder / "hold").unlink()
    os.kill(between, signal.SIGCONT)
    family.end()
    assert state(between) == ""


def a_process_between_that_is_killed_costs_one_request(folder: Path) -> None:
    _hold(folder)
    family = Family(folder)
    (folder / "hold").touch()
    number, _ = family.ask("echo")
    between = _stopped_between(family)
    (folder / "hold").unlink()
    os.kill(between, signal.SIGKILL)
    assert family.answers() == [(number, Answer.REFUSED, errno.EAGAIN)]
    assert children(family.pid) == [], "the template has reaped it"
    process, control = family.born("echo")
    said(control, "there")
    control.close()
    assert gone(process) == ENDED
    family.end()


def what_fails_in_a_copy_ends_the_copy_and_not_as_a_second_template(folder: Path) -> None:
    family = Family(folder)
    for kind in ("OSError", "PeerGone", "SystemExit"):
        process, _ = family.born("fail", kind)
        assert gone(process) == 1, kind
    process, control = family.born("echo")
    said(control, "there")
    assert children() == [family.pid, process.pid]
    control.close()
    family.end()


def no_two_copies_draw_the_same_chances(folder: Path) -> None:
    family = Family(folder)
    found = []
    for _ in range(3):
        process, control = family.born("report")
        message = control.receive(AT_LAST_S)
        assert message is not None
        _, pid, chance, unique, *_ = message
        assert pid == process.pid
        found += [chance, unique]
        control.close()
    found += [random.random(), uuid.uuid4().hex]
    assert len(set(found)) == len(found)
    family.end()


def a_copy_has_its_pipe_and_the_slots_and_nothing_else_of_anybody(folder: Path) -> None:
    family = Family(folder)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    first_one, control = family.born("echo")
    said(control, "there")
    _, its = family.born("report")
    message = its.receive(AT_LAST_S)
    assert message is not None
    assert message[-1] == family.own, message
    assert descriptors(family.pid) == family.own, "nor does the template keep an end"
    control.close()
    assert gone(first_one) == ENDED, "no other copy holds its pipe open"
    os.close(lock)
    its.close()
    family.end()


def garbage_is_collected_in_copies_and_not_in_the_template(folder: Path) -> None:
    def look() -> None:
        (folder / "template").write_text(
            json.dumps([gc.isenabled(), gc.get_freeze_count() > 0, len(os.listdir("/proc/self/task"))]), "utf-8"
        )

    family = Family(folder, (look, (folder / "seen").touch))
    _, control = family.born("report")
    message = control.receive(AT_LAST_S)
    assert message is not None
    assert message[4], "on in a copy"
    assert message[5] > 10_000, "and what it shares is not looked at"
    eventually((folder / "seen").exists, timeout=AT_LAST_S, what="the template has taken its steps")
    assert json.loads((folder / "template").read_text("utf-8")) == [False, True, 1]
    control.close()
    family.end()


def the_template_has_one_thread_and_no_connection_when_all_is_loaded(folder: Path) -> None:
    steps = child_main.STEPS
    loaded = folder / "loaded"
    family = Family(folder, (*steps, loaded.touch))
    eventually(loaded.exists, timeout=AT_LAST_S, what="all is loaded")
    assert os.listdir(f"/proc/{family.pid}/task") == [str(family.pid)]
    # The file of the last step is there a moment before it is closed.
    eventually(lambda: descriptors(family.pid) == family.own, timeout=AT_LAST_S, what="nothing but its own is open")
    family.end()


def a_step_that_cannot_be_taken_costs_no_copy(folder: Path) -> None:
    def missing() -> None:
        raise ImportError("libjpeg.so.62 is not here")

    def unreadable() -> None:
        raise OSError(errno.EIO, "the disk")

    taken = folder / "taken"
    family = Family(folder, (missing, unreadable, taken.touch))
    eventually(taken.exists, timeout=AT_LAST_S, what="the steps behind it are taken")
    process, control = family.born("echo")
    said(control, "there")
    control.close()
    assert gone(process) == ENDED
    family.end()


def copies_share_their_cells_with_us(folder: Path) -> None:
    family = Family(folder)
    process, control = family.born("echo")
    said(control, "there")
    assert family.template.shared.pair(family.cells).stats[Cell.TICKET] == process.pid
    control.close()
    family.end()


def a_template_without_a_descriptor_refuses_and_forks_when_it_has_one(folder: Path) -> None:
    family = Family(folder)
    before = resource.prlimit(family.pid, resource.RLIMIT_NOFILE)
    opened = 3 + len(descriptors(family.pid))
    for spare, gets in (
        (-1, Answer.REFUSED),
        (0, Answer.REFUSED),
        (1, Answer.REFUSED),
        (2, Answer.REFUSED),
        (3, Answer.FORKED),
    ):
        resource.prlimit(family.pid, resource.RLIMIT_NOFILE, (opened + spare, before[1]))
        number, control = family.ask("echo")
        ((answered, answer, value),) = family.answers()
        assert (answered, answer) == (number, gets)
        assert answer is Answer.FORKED or value == errno.EMFILE
        control.close()
    assert len(descriptors(family.pid)) + 3 == opened, "nothing has leaked"
    family.end()


def a_template_that_does_not_answer_is_killed_in_time_and_replaced(folder: Path) -> None:
    family = Family(folder)
    template = family.template
    assert template.due(monotonic()) is None, "nobody waits for it"
    os.kill(family.pid, signal.SIGSTOP)
    before = monotonic()
    number, control = family.ask("echo")
    due = template.due(before)
    assert due is not None
    assert before + TEMPLATE_ANSWERS_S <= due <= monotonic() + TEMPLATE_ANSWERS_S
    assert list(template.look_after(due - 0.1)) == []
    template.forgive(before + 100.0)
    assert template.due(before) == before + 100.0 + TEMPLATE_ANSWERS_S, "we stood still ourselves"
    template.forgive(before)
    stopped = family.pid
    assert list(template.look_after(due)) == [(number, Answer.LOST, 0)]
    assert state(stopped) == ""
    assert template.restarts == {"hung": 1}
    control.close()
    family.another()
    family.end()


def one_that_dies_again_and_again_is_made_less_and_less_often_and_said_to_be_gone(folder: Path) -> None:
    family = Family(folder)
    template = family.template
    for _ in range(2):
        assert family.kill_template() == []
        assert template.refusal == "" if template.booting else template.refusal
        due = template.due(monotonic())
        assert due is not None
        assert list(template.look_after(due)) == []
        assert family.answers() == []
        assert template.refusal == "", "it is there"
    assert family.kill_template() == []
    assert not template.booting
    assert template.state == "dead"
    assert template.refusal == "SIGKILL, perhaps out of memory"
    with pytest.raises(CannotStart) as refused:
        family.ask("echo")
    assert str(refused.value) == "its template process is gone: SIGKILL, perhaps out of memory"
    due = template.due(monotonic())
    assert due is not None
    assert due > monotonic(), "not at once"
    family.end()


def a_template_that_cannot_be_made_says_why(folder: Path) -> None:
    family = Family(folder)
    template = family.template
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert family.kill_template() == []
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    now = monotonic()
    assert list(template.look_after(now)) == []
    assert template.refusal == "Too many open files"
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    with pytest.raises(CannotStart) as refused:
        family.ask("echo")
    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno == errno.EMFILE
    assert template.restarts == {"signal": 1, "start_failed": 1}
    due = template.due(now)
    assert due is not None
    assert list(template.look_after(due)) == []
    assert family.answers() == []
    assert template.refusal == ""
    family.end()


def a_start_without_room_for_a_template_goes_on_without(folder: Path) -> None:
    if os.getuid() == 0:  # it has no limit of processes
        os.setuid(65534)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
    template = first()
    assert template.booting, "it is tried again at once"
    assert list(template.look_after(monotonic())) == []
    assert template.refusal == "Resource temporarily unavailable"
    assert children() == []


def too_much_for_a_pipe_is_refused(folder: Path) -> None:
    family = Family(folder)
    with pytest.raises(CannotStart) as refused:
        family.ask("leave", "x" * 70_000)
    assert "too much" in str(refused.value)
    process, _ = family.born("leave", 0)
    assert gone(process) == 0
    family.end()


def a_template_ends_when_its_maker_is_gone(folder: Path) -> None:
    """The maker is a process of ours that is killed; its template and copy become ours."""
    reap_orphans()
    reads, writes = os.pipe()
    maker = os.fork()
    if maker == 0:
        family = Family(folder)
        process, control = family.born("echo")
        said(control, "there")
        os.write(writes, json.dumps([family.pid, process.pid]).encode())
        signal.pause()
    template, process_id = json.loads(os.read(reads, 100))
    os.kill(maker, signal.SIGKILL)
    codes = dict(os.waitpid(pid, 0) for pid in (maker, template, process_id))
    assert codes == {maker: signal.SIGKILL, template: 0, process_id: ENDED << 8}


def main() -> None:
    """Play one scene; nobody of it is left, also where it fails."""
    try:
        globals()[sys.argv[1]](Path(sys.argv[2]))
    finally:
        while left := children():
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
