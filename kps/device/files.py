"""A printer behind a device file of this host: by USB (the kernel's usblp) or at a serial port.

The law of this file:
* A row in the POS names the file, so nothing is opened that PRINTER_DEVICES does not list, that lies outside of /dev
  once links are followed, or that is no character device.
* Nothing acknowledges what we write. By USB, which has flow control, usblp knows when the printer has taken a portion;
  a serial port knows what has left it, and no more.
* A file is not a connection: we may read the answer to a question of the program that had it open before. So nothing is
  used here that needs the answer to be new (`Abilities.heard_on`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import struct
import termios

from kps.core.address import FileAddress, FileKind, Flow
from kps.core.device_files import not_ours
from kps.core.limits import is_shortage
from kps.core.settings import Settings
from kps.core.status import PrinterStatus, port_status, sentence
from kps.core.tickets import Reason
from kps.device.transport import Unreachable, Vitals, queued, wait_for

_LPGETSTATUS = 0x060B
"""Reads the status byte of the USB printer class. Source: linux/lp.h."""
_USB_MAJOR = 180
"""The device number that Linux gives to usblp."""
_WOULD_BLOCK = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)
_ONE_WAY = (errno.EINVAL, errno.EOPNOTSUPP)
"""Errors of a read from a printer whose USB interface has no way back."""


class _NoDevice(Exception):
    """The file is none that may be opened as a printer. The message says why, and follows the file's name."""


def absence(address: FileAddress, settings: Settings) -> str:
    """Why this instance cannot open the file, in a few words; '' if it can. Opens nothing."""
    if reason := not_ours(address, settings.printer_devices, settings.instance_name):
        return reason
    try:
        _located(address.path)
    except _NoDevice as why:
        return f"its device {address.path} {why}"
    return ""


def _located(path: str) -> str:
    """The path of the device once links are followed. Raises _NoDevice."""
    try:
        found = os.path.realpath(path, strict=True)
        mode = os.stat(found).st_mode
    except OSError as error:
        raise _NoDevice("is not here") from error
    if not found.startswith("/dev/"):
        raise _NoDevice(f"leads to {found}, outside of /dev")
    if not stat.S_ISCHR(mode):
        raise _NoDevice("is no character device")
    return found


def open_file(address: FileAddress) -> FileTransport:
    """Open it for us alone. Raises Unreachable. It may open although no printer is connected to it."""
    try:
        found = _located(address.path)
        descriptor = os.open(found, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except _NoDevice as why:
        raise Unreachable(Reason.REFUSED, f"{address.path} {why}") from why
    except OSError as error:
        if is_shortage(error):
            raise Unreachable(Reason.HOST_FULL, sentence(Reason.HOST_FULL)) from error
        raise Unreachable(Reason.REFUSED, f"{address.path}: {_in_words(error)}") from error
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, descriptor)
        try:
            transport = _set_up(descriptor, address)
        except _NoDevice as why:
            raise Unreachable(Reason.REFUSED, f"{address.path} {why}") from why
        except OSError as error:
            raise Unreachable(Reason.REFUSED, f"{address.path}: {_in_words(error)}") from error
        undo.pop_all()
    return transport


def _in_words(error: OSError) -> str:
    if error.errno in (errno.EBUSY, errno.EWOULDBLOCK):
        return "another program has it"
    return os.strerror(error.errno or 0).lower()


def _set_up(descriptor: int, address: FileAddress) -> FileTransport:
    """Lock it and set it up to carry bytes unchanged. Raises _NoDevice, OSError."""
    known = os.fstat(descriptor)
    if not stat.S_ISCHR(known.st_mode):
        raise _NoDevice("is no character device")
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    is_tty = os.isatty(descriptor)
    if not is_tty and (address.kind is FileKind.SERIAL or os.major(known.st_rdev) != _USB_MAJOR):
        raise _NoDevice("is no serial port" if address.kind is FileKind.SERIAL else "is no USB printer")
    if is_tty:
        try:
            _make_raw(descriptor, address)
        except termios.error as error:
            raise OSError(*error.args) from error
    return FileTransport(descriptor, is_tty=is_tty)


def _make_raw(descriptor: int, address: FileAddress) -> None:
    """No byte is changed, echoed or swallowed on its way. Raises termios.error, OSError."""
    fcntl.ioctl(descriptor, termios.TIOCEXCL)
    speed = getattr(termios, f"B{address.baud}")
    given = termios.IXON if address.flow is Flow.SOFTWARE else 0
    control = termios.CS8 | termios.CREAD | termios.CLOCAL
    if address.flow is Flow.HARDWARE:
        control |= termios.CRTSCTS
    signs = termios.tcgetattr(descriptor)[6]
    signs[termios.VMIN], signs[termios.VTIME] = 1, 0  # no data is EAGAIN; an empty read means that the port is gone
    termios.tcsetattr(descriptor, termios.TCSANOW, [given, 0, control, 0, speed, speed, signs])
    termios.tcflush(descriptor, termios.TCIFLUSH)


class FileTransport:
    """An open device file."""

    def __init__(self, descriptor: int, *, is_tty: bool) -> None:
        self._descriptor = descriptor
        self._is_tty = is_tty
        self._last = 0
        """Bytes of the last write that was taken."""
        self._can_read = True
        self._has_status = not is_tty

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._descriptor

    def read(self, most: int) -> bytes | None:
        """See Transport. An empty read means that a serial port is gone, and by USB only that there is nothing."""
        if not self._can_read:
            return None
        try:
            data = os.read(self._descriptor, most)
        except OSError as error:
            if error.errno in _WOULD_BLOCK:
                return None
            if error.errno in _ONE_WAY and not self._is_tty:
                self._can_read = False
                return None
            raise
        return data if data or self._is_tty else None

    def write(self, data: bytes | memoryview) -> int:
        """See Transport."""
        try:
            count = os.write(self._descriptor, data)
        except OSError as error:
            if error.errno in _WOULD_BLOCK:
                return 0
            raise
        self._last = count or self._last
        return count

    def wait(self, limit_s: float, *, writable: bool = False, also: int | None = None) -> None:
        """See Transport."""
        wait_for(self._descriptor, limit_s, writable=writable, also=also)

    def unsent(self) -> int:
        """At a serial port what waits in it; by USB the last write, until the printer has taken it.

        If the device is gone, what was written last counts as not sent.
        """
        if not self._last:
            return 0
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        events = sum(event for _, event in poll.poll(0))
        if events & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
            return self._last
        if not self._is_tty:
            return 0 if events & select.POLLOUT else self._last
        try:
            return queued(self._descriptor)
        except OSError:
            return self._last

    def vitals(self) -> Vitals | None:
        """Unknown: a printer that is switched off cannot be told from one that takes no data."""
        return None

    def expect_life(self, limit_s: float | None) -> None:
        """Nothing to do: that the device is gone is noticed at once, that a printer at a cable is off not at all."""

    def status(self) -> PrinterStatus:
        """The status byte of the USB printer class. The kernel waits for it, at worst for 5 s."""
        if not self._has_status:
            return PrinterStatus()
        answer = bytearray(4)
        try:
            fcntl.ioctl(self._descriptor, _LPGETSTATUS, answer)
        except OSError:
            self._has_status = False
            return PrinterStatus()
        return port_status(int(struct.unpack("i", answer)[0]))

    def finish(self) -> None:
        """Nothing to do: a file has no end to announce."""

    def finished(self) -> bool:
        """Whether all has left. Closing takes the rest back."""
        return self.unsent() == 0

    def close(self) -> None:
        """Take back what has not left; the kernel would wait for it, up to half a minute."""
        try:
            if self._is_tty:
                # If this fails, the device is gone; the file is closed all the same.
                with contextlib.suppress(termios.error, OSError):
                    termios.tcflush(self._descriptor, termios.TCOFLUSH)
                with contextlib.suppress(OSError):
                    fcntl.ioctl(self._descriptor, termios.TIOCNXCL)
        finally:
            os.close(self._descriptor)

    def abort(self) -> None:
        """The same as `close`."""
        self.close()
