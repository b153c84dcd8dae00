"""Become another program that ends when its owner ends. Run as a script, between fork and exec.

    python -I -S postgres_child.py OWNER_PID UID GID PROGRAM ARGUMENT...

A fresh interpreter does what a `preexec_fn` would do, because code between fork and exec
can deadlock when the owner has threads. With a UID and GID of -1 the user stays the same.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""
OWNER_IS_GONE = 75
"""Exit code when the owner has ended already."""


def main(arguments: list[str]) -> None:
    """Change the user, arrange to end with the owner, then exec the program. Returns only by an exception."""
    owner, uid, gid = (int(text) for text in arguments[:3])
    if uid != -1:
        _become_user(uid, gid)
    # After the change of user: the kernel forgets the death signal when credentials change.
    if sys.platform == "linux":
        _end_with_owner()
    if os.getppid() != owner:  # it ended before the death signal was set
        raise SystemExit(OWNER_IS_GONE)
    os.execv(arguments[3], arguments[3:])  # noqa: S606 - the program is our owner's choice


def _become_user(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _end_with_owner() -> None:
    """Get SIGINT when the thread that started this process ends. PostgreSQL shuts down fast and cleanly on it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(sys.argv[1:])
