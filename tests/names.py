"""A name server that a test can silence, and a view of the host in which it is the only one there is.

glibc asks port 53 of the addresses in /etc/resolv.conf and no other, so both files are replaced in a mount namespace of
the process that is to use it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path
from types import TracebackType

SILENT_SERVERS = 3
"""So many addresses are named, all of them ours: while we are silent a lookup takes 25 s."""
_A, _AAAA, _NO_SUCH_NAME = 1, 28, 3


class NameServer:
    """Answers for the names in `addresses`; nobody else has one. `silent`: it takes questions and answers none."""

    def __init__(self, folder: Path, **addresses: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.addresses = {name.replace("_", "-"): address for name, address in addresses.items()}
        self.silent = False
        self.silent_for: frozenset[str] = frozenset()
        """Names that are not answered for, whatever becomes of the others."""
        self.asked: list[str] = []
        """Every name that it was asked for, in order."""
        host = ".".join(str(random.SystemRandom().randint(2, 250)) for _ in range(2))
        self._doors = [_door(f"127.{host}.{n + 1}") for n in range(SILENT_SERVERS)]
        self._resolv = folder / "resolv.conf"
        self._resolv.write_text("".join(f"nameserver {door.getsockname()[0]}\n" for door in self._doors) + "search .\n")
        self._switch = folder / "nsswitch.conf"
        self._switch.write_text("hosts: files dns\n")
        self._over, self._end = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> NameServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nobody answers any more."""
        os.close(self._end)
        self._thread.join()
        os.close(self._over)
        for door in self._doors:
            door.close()

    @property
    def prefix(self) -> list[str]:
        """Before a command: it sees this name server only, under the same process number."""
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        script = 'mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@"'
        files = [str(self._resolv), str(self._switch)]
        return ["unshare", "--mount", *user, "sh", "-c", script, "sh", *files]

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._over, *self._doors], [], [])
            if self._over in ready:
                return
            for door in ready:
                self._answer(door)

    def _answer(self, door: socket.socket) -> None:
        question, asker = door.recvfrom(4096)
        name, end = _name(question)
        self.asked.append(name)
        if self.silent or name in self.silent_for:
            return
        (kind,) = struct.unpack("!H", question[end : end + 2])
        known = self.addresses.get(name)
        answer = b""
        if known is not None and kind == _A:
            answer = struct.pack("!HHHIH", 0xC00C, _A, 1, 0, 4) + socket.inet_aton(known)
        code = 0 if known is not None else _NO_SUCH_NAME
        head = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, 1 if answer else 0, 0, 0)
        with contextlib.suppress(OSError):
            door.sendto(head + question[12 : end + 4] + answer, asker)


def _door(host: str) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        door.bind((host, 53))
    except OSError:
        door.close()
        raise
    return door


def _name(question: bytes) -> tuple[str, int]:
    """The name that is asked for, and where it ends."""
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    return ".".join(labels).lower(), at + 1


@functools.cache
def lacking() -> str:
    """What a name server of a test's own lacks here; '' if nothing."""
    try:
        _door("127.0.77.53").close()
    except OSError:
        return "the right to answer on port 53 (sudo make test)"
    if shutil.which("unshare") is None:
        return "unshare (Debian: apt install util-linux)"
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    bind = "mount --bind /etc/hostname /etc/resolv.conf && mount --bind /etc/hostname /etc/nsswitch.conf"
    found = subprocess.run(["unshare", "--mount", *user, "sh", "-c", bind], capture_output=True, check=False)
    return "" if found.returncode == 0 else "the right to put another /etc/resolv.conf in its place"
