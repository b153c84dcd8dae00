"""The template process: it has imported everything and opened nothing, and each child of a supervisor is a copy of it.

It has one thread, so a copy has no lock that somebody else holds; and all that it has imported lies in memory that the
copies share. A copy is not its child but the supervisor's: it is forked twice, and the supervisor is the sub-reaper. So
the supervisor reaps its children itself, with their exit codes, whether or not their template still lives.
"""

from __future__ import annotations

import errno
import functools
import gc
import os
import select
import signal
import struct
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from kps.process.channels import Channel, EndLost, PeerGone
from kps.process.child import ChildStart, name_process
from kps.process.shared_stats import SharedStats

START_FRAME_LIMIT = 64 * 1024
"""Bytes of a request: settings, what the database's tables are like, and what the child is to work on."""

_SAID = struct.Struct("!ii")
"""(pid, error number): one of them is 0."""

Entry = Callable[..., None]


def freeze() -> None:
    """What is here now stays for good: no collector looks at it any more, so none writes on the pages it lies in."""
    gc.collect()
    gc.freeze()


def serve(
    control: Channel, shared: SharedStats, entries: Mapping[str, Entry], steps: Iterable[Callable[[], None]] = ()
) -> NoReturn:
    """Fork a copy for each request until the supervisor is gone. Never returns, not in a copy either.

    While nothing is asked, the `steps` are taken: what they load, later copies find loaded.

    A request is `("fork", number, kind, start, more)`, with the child's end of its control pipe; the answer is
    `("forked", number, pid)` or `("refused", number, error number)`. The copy calls
    `entries[kind](start, control pipe, shared, *more)`.
    """
    code = 1
    try:
        control.frame_limit = START_FRAME_LIMIT
        name_process("template")
        for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            # What hits the whole group is for the supervisor to act on; we end when it has ended.
            signal.signal(ignored, signal.SIG_IGN)
        gc.disable()  # a collection would write on pages that the copies share
        control.send(("ready",))
        _answer_all(control, shared, entries, deque(steps))
    except PeerGone:
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is: nothing of our caller may run here
        traceback.print_exc()
    finally:
        os._exit(code)


def _answer_all(
    control: Channel, shared: SharedStats, entries: Mapping[str, Entry], steps: deque[Callable[[], None]]
) -> None:
    """Raises PeerGone when the supervisor has gone."""
    while True:
        poll = select.poll()
        poll.register(control, control.awaited)
        if not poll.poll(0 if steps else None):
            _take(steps.popleft())
        while (request := control.receive()) is not None:
            _, number, *wish = request
            try:
                pid = _copied(control, functools.partial(_begin, shared, entries, *wish))
            except OSError as error:
                control.send(("refused", number, error.errno))
            else:
                control.send(("forked", number, pid))
        control.flush()


def _take(step: Callable[[], None]) -> None:
    """Load something ahead. Where that fails it is said on stderr: a copy that needs it loads it, or says why not."""
    try:
        step()
    except (ImportError, OSError, MemoryError):
        traceback.print_exc()
    gc.freeze()


def _begin(
    shared: SharedStats, entries: Mapping[str, Entry], kind: str, start: ChildStart, more: tuple[Any, ...], end: Channel
) -> None:
    """In the copy: what it is for."""
    entries[kind](start, end, shared.pair(start.cells), *more)


def _copied(control: Channel, work: Callable[[Channel], None]) -> int:
    """A copy of this process that does `work` with the end that came with the request; its pid. Raises OSError."""
    try:
        end = control.receive_end()
    except EndLost as error:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from error
    try:
        reads, writes = os.pipe()
        try:
            between = os.fork()
            if between == 0:
                _fork_again(writes)
                os.close(reads)
                os.close(writes)
                control.close()
                gc.enable()
                _do(work, end)
            os.close(writes)
            writes = -1
            said = os.read(reads, _SAID.size)
        finally:
            os.close(reads)
            if writes >= 0:
                os.close(writes)
        # Only when the process between has gone is the copy the supervisor's, to be reaped once it is known.
        os.waitpid(between, 0)
    finally:
        end.close()
    pid, refused = _SAID.unpack(said) if len(said) == _SAID.size else (0, errno.EAGAIN)
    if refused:
        raise OSError(refused, os.strerror(refused))
    return int(pid)


def _do(work: Callable[[Channel], None], end: Channel) -> NoReturn:
    """In the copy: whatever becomes of the work, nothing of the template runs here after it."""
    code = 1
    try:
        work(end)
        code = 0
    except BaseException:  # noqa: BLE001 - it would go on as a second template
        traceback.print_exc()
    finally:
        os._exit(code)


def _fork_again(writes: int) -> None:
    """Returns in the copy only; the process between says its pid and is gone."""
    try:
        pid = os.fork()
    except OSError as error:
        os.write(writes, _SAID.pack(0, error.errno or errno.EAGAIN))
        os._exit(0)
    if pid:
        # Our own copy of the reading end is open still, so that this cannot fail if the template has died meanwhile.
        os.write(writes, _SAID.pack(pid, 0))
        os._exit(0)
