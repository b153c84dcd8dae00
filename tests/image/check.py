"""Builds the Dockerfile for real and runs the image's first process, without a Docker engine.

    .venv/bin/python -m tests.image.check          (root, with buildah and mmdebstrap; part of `make check-long`)

The base is a Debian made on the spot, so everything but the real base image, seccomp and HEALTHCHECK is covered: all
RUN steps, the files and their rights, supervisord as PID 1 of user 10001, a ticket on paper, and a clean end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.shop import Shop, open_shop, wait_until
from tests.service.harness import free_port

USER = 10001
ROOT = Path(__file__).parents[2]
BUILDAH = ["buildah", "--storage-driver", "vfs"]
CERTIFICATES = ("/etc/ssl/certs", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates")


def main() -> int:
    """0 if the image does its work; 77 if this machine cannot tell."""
    lacking = [tool for tool in ("buildah", "mmdebstrap", "unshare") if shutil.which(tool) is None]
    if lacking or os.geteuid() != 0:
        print(f"the image was not built: this needs root and {', '.join(lacking) or 'nothing else'}")
        return 77
    with tempfile.TemporaryDirectory(prefix="kps-image-") as folder, contextlib.ExitStack() as stack:
        root = build(Path(folder), stack)
        with open_shop(["kitchen"]) as shop:
            run(root, shop)
    print("the image builds, prints as user 10001 under supervisord as PID 1, and ends with 0")
    return 0


def build(folder: Path, stack: contextlib.ExitStack) -> Path:
    """Base, image, and a container of it; the mounted root folder."""
    say(
        [
            "mmdebstrap",
            "--variant=apt",
            "--include=ca-certificates,python3,python3-venv",
            "bookworm",
            folder / "base.tar",
        ]
    )
    (folder / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n", encoding="utf-8")
    say([*BUILDAH, "bud", "--isolation", "chroot", "-t", "localhost/kps-base", folder])
    stack.callback(say, [*BUILDAH, "rmi", "--force", "localhost/kps-base"])
    # The host's certificates, so that a package mirror behind an authority of one's own can be used.
    volumes = [f"--volume={path}:{path}:ro" for path in CERTIFICATES if Path(path).is_dir()]
    image = [*BUILDAH, "bud", "--isolation", "chroot", *volumes, "--build-arg", "BASE=localhost/kps-base"]
    say([*image, "-t", "localhost/kps-check", ROOT])
    stack.callback(say, [*BUILDAH, "rmi", "--force", "localhost/kps-check"])
    container = said([*BUILDAH, "from", "localhost/kps-check"])
    stack.callback(say, [*BUILDAH, "rm", container])
    root = Path(said([*BUILDAH, "mount", container]))
    stack.callback(say, [*BUILDAH, "umount", container])
    (root / "dev/shm").mkdir(mode=0o1777, parents=True, exist_ok=True)
    (root / "dev/shm").chmod(0o1777)  # as a container engine mounts it
    return root


def run(root: Path, shop: Shop) -> None:
    """The image's own command, a ticket, its health check, TERM."""
    port = free_port()
    environment = {
        "PATH": "/opt/kps/bin:/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "KPS_RUN_DIR": "/run/kps", "RUN_DIR": "/run/kps", "LOG_DIR": "/var/log/kps", "DB_HOST": "127.0.0.1",
        "DB_PORT": str(shop.server.port), "DB_NAME": "pos", "DB_USER": shop.server.user,
        "DB_PASSWORD": shop.server.password, "HEALTH_CHECK_HOST": "127.0.0.1", "HEALTH_CHECK_PORT": str(port),
        "POS_WIDGET_PORT": "0",
    }  # fmt: skip
    chroot, nsenter, unshare = (str(shutil.which(tool)) for tool in ("chroot", "nsenter", "unshare"))
    command = [unshare, "--pid", "--fork", "--mount", f"--mount-proc={root}/proc", chroot, f"--userspec={USER}:{USER}"]
    with output_of(USER) as (writer, text):
        first = subprocess.Popen(
            [*command, str(root), "supervisord", "-c", "/app/supervisord.conf"],
            env=environment,
            stdout=writer,
            stderr=writer,
        )
        try:
            ticket = shop.pos.ticket("kitchen", [("Nasi Goreng", 1), ("宫保鸡丁", 1), ("شاي بالنعناع", 1), ("🧋", 1)])
            wait_until(
                lambda: (shop.pos.ticket_row(ticket) or {})["status"] == "printed", 40.0, "the ticket is printed"
            )
            paper = shop.printers["kitchen"].wait_paper(1)
            assert len(paper.raster) == 3, "a dish was not drawn: the image lacks a font"
            assert "[U+" not in paper.text
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                assert answer.status == 200
            say(
                [nsenter, "-t", str(first.pid), "-m", chroot, str(root), "python", "-m", "kps.health", "live"],
                environment,
            )
            inside = said(["ps", "-o", "uid=", "--ppid", str(first.pid)])
            assert inside == str(USER), inside
            os.kill(int(said(["ps", "-o", "pid=", "--ppid", str(first.pid)])), signal.SIGTERM)
            assert first.wait(45) == 0
        except BaseException:
            print(text())
            raise
        finally:
            first.kill()
            first.wait(10)


@contextlib.contextmanager
def output_of(user: int) -> Iterator[tuple[int, Callable[[], str]]]:
    """A pipe that belongs to the user, as a container's stdout does: supervisord opens it again by name."""
    reader, writer = os.pipe()
    os.fchown(reader, user, user)
    os.fchown(writer, user, user)
    os.set_blocking(reader, False)
    try:
        yield writer, lambda: os.read(reader, 60_000).decode(errors="replace")
    finally:
        os.close(reader)
        os.close(writer)


def say(command: list[object], environment: dict[str, str] | None = None) -> None:
    """Run a program; what it says is shown only if it fails."""
    began = time.monotonic()
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout[-3000:] + done.stderr[-6000:])
        raise SystemExit(f"{command[0]} ended with {done.returncode}")
    print(f"{time.monotonic() - began:6.1f} s  {' '.join(str(part) for part in command[:4])}")


def said(command: list[object]) -> str:
    """The one line that a program prints."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
