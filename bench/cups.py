"""CUPS on raw socket queues, from `lp` to the cut: a spooler without a database, beside which KPS is measured.

    .venv/bin/python -m bench.cups [--papers 200]

It starts a separate cupsd with its own configuration, spool and port, on loopback, in a temporary folder. It needs
Debian's `cups`. The queues are set to send no SNMP and not to wait for the printer to hang up, which makes them as fast
as they can be.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.ceiling import STATIONS, ordinary, wait_cut
from bench.rig import Printers
from bench.shop import ending_with_us, percentile, wait_until
from bench.single import end_in_order

SYSTEM_PATH = f"/usr/sbin:/usr/bin:/sbin:/bin:{os.defpath}"
BACKEND = Path("/usr/lib/cups/backend/socket")
START_LIMIT_S = 20.0
STOP_LIMIT_S = 20.0
LP_LIMIT_S = 30.0
PAUSE_S = 0.01
"""Seconds between two papers of an idle spooler."""

SCHEDULER = """\
Listen 127.0.0.1:{port}
LogLevel error
AccessLogLevel config
MaxLogSize 0
Browsing No
WebInterface No
DefaultAuthType None
MaxJobs 0
MaxJobsPerPrinter 0
PreserveJobHistory No
PreserveJobFiles No
<Location />
  Order allow,deny
  Allow all
</Location>
<Policy default>
  JobPrivateAccess all
  JobPrivateValues none
  <Limit All>
    Order allow,deny
    Allow all
  </Limit>
</Policy>
"""
FILES = """\
ServerRoot {folder}/etc
CacheDir {folder}/cache
RequestRoot {folder}/spool
StateDir {folder}/state
TempDir {folder}/tmp
AccessLog {folder}/access.log
ErrorLog {folder}/error.log
PageLog {folder}/page.log
CreateSelfSignedCerts no
"""
"""SyncOnClose stays what it is by default, off: CUPS writes its spool without fsync."""


class CupsMissing(Exception):
    """A program of CUPS is not installed here, or it does not run; the text says which."""


@dataclass(frozen=True, slots=True)
class Cups:
    """A running spooler with a queue for each printer, called as the printer."""

    port: int
    folder: Path

    def spool(self, name: str, number: int, paper: bytes) -> Path:
        """Write a paper to a file, for `submit`."""
        path = self.folder / f"{name}-{number}"
        path.write_bytes(paper)
        return path

    def submit(self, name: str, path: Path) -> None:
        """Give one file to a queue, by a process of `lp`, as a till's program does."""
        _run("lp", "-h", f"127.0.0.1:{self.port}", "-d", name, "-s", "-o", "raw", str(path))


@contextlib.contextmanager
def cups(printers: Printers, names: Sequence[str]) -> Iterator[Cups]:
    """A cupsd with a queue for each of these printers. Raises CupsMissing."""
    program = _find("cupsd")
    _find("lpadmin")
    _find("lp")
    if not BACKEND.exists():
        raise CupsMissing(f"there is no {BACKEND}")
    with tempfile.TemporaryDirectory(prefix="kps-bench-cups-") as name:
        folder, port = Path(name), _free_port()
        _write_settings(folder, port)
        with _scheduler(program, folder, port):
            for printer in names:
                host, its_port = printers.addresses[printer]
                uri = f"socket://{host}:{its_port}/?waiteof=false&snmp=false"
                _run(
                    "lpadmin", "-h", f"127.0.0.1:{port}", "-p", printer, "-v", uri, "-E",
                    "-o", "printer-is-shared=false",
                )  # fmt: skip
            yield Cups(port, folder)


def _find(program: str) -> str:
    found = shutil.which(program, path=SYSTEM_PATH)
    if found is None:
        raise CupsMissing(f"{program} is not installed (Debian: apt install cups cups-client)")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write_settings(folder: Path, port: int) -> None:
    folder.chmod(0o711)  # its backends run as another user
    for name in ("etc", "cache", "spool", "state", "tmp"):
        (folder / name).mkdir()
    (folder / "cupsd.conf").write_text(SCHEDULER.format(port=port))
    (folder / "cups-files.conf").write_text(FILES.format(folder=folder))


@contextlib.contextmanager
def _scheduler(program: str, folder: Path, port: int) -> Iterator[None]:
    command = [
        *ending_with_us(),
        program,
        "-c",
        str(folder / "cupsd.conf"),
        "-s",
        str(folder / "cups-files.conf"),
        "-f",
    ]
    with (folder / "cupsd.out").open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or _listens(port), START_LIMIT_S, "cupsd listens", every_s=0.02)
        if process.poll() is not None:
            raise CupsMissing(f"cupsd ended with {process.returncode}: {(folder / 'cupsd.out').read_text().strip()}")
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _run(*command: str) -> None:
    """Raises CupsMissing if it fails: then there is nothing to compare with."""
    program = _find(command[0])
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=LP_LIMIT_S)
    if done.returncode:
        raise CupsMissing(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")


def rate(spooler: Cups, printers: Printers, papers: Mapping[str, Sequence[bytes]]) -> float:
    """Papers a second, from the first `lp` to the last cut; each queue is fed by one `lp` after the other."""
    printers.take()
    files = {name: [spooler.spool(name, n, paper) for n, paper in enumerate(own)] for name, own in papers.items()}

    def feed(name: str) -> None:
        for path in files[name]:
            spooler.submit(name, path)

    with ThreadPoolExecutor(len(files)) as pool:
        began = time.monotonic()
        running = [pool.submit(feed, name) for name in files]
        for one in running:
            one.result()
    seen = wait_cut(printers, sum(map(len, papers.values())))
    return len(seen) / (max(one.cut for one in seen) - began)


def one_by_one(spooler: Cups, printers: Printers, name: str, papers: Sequence[bytes]) -> list[float]:
    """Milliseconds from `lp` to the first byte at the printer, one paper at a time on an idle spooler."""
    found = []
    printers.take()
    for number, paper in enumerate(papers):
        path = spooler.spool(name, number, paper)
        time.sleep(PAUSE_S)  # the pause of the load
        began = time.monotonic()
        spooler.submit(name, path)
        (one,) = wait_cut(printers, 1)
        found.append((one.first_byte - began) * 1000)
    return found


def main() -> None:
    """Print what it does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--papers", type=int, default=200)
    chosen = parser.parse_args()
    end_in_order()
    papers = ordinary(chosen.papers)
    with Printers(STATIONS, processes=len(STATIONS)) as printers, cups(printers, STATIONS) as spooler:
        print(f"CUPS, raw queues    {rate(spooler, printers, papers):7.0f} papers/s")
        alone = one_by_one(spooler, printers, STATIONS[0], papers[STATIONS[0]])
        print(f"lp to first byte    {percentile(alone, 0.5):7.1f} ms p50 {percentile(alone, 0.99):7.1f} ms p99")


if __name__ == "__main__":
    main()
