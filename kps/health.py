"""The container's probe: `python -m kps.health live|ready` asks the running service and exits 0 or 1."""

from __future__ import annotations

import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence

PATHS = {"live": "/healthz", "ready": "/readyz"}
TIMEOUT_S = 2.0
"""Shorter than the HEALTHCHECK's own 3 s, so that the answer is ours."""


def probe(question: str, environment: Mapping[str, str]) -> tuple[bool, str]:
    """Ask the service of this host; whether all is well, and what it said in one line."""
    # No proxy may stand between a probe and its own host.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(_url(question, environment), timeout=TIMEOUT_S) as answer:
            return True, _first_line(answer.read(2000))
    except urllib.error.HTTPError as refusal:
        with refusal:
            return False, f"{refusal.code} {_first_line(refusal.read(2000))}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return False, f"no answer: {error}"


def _url(question: str, environment: Mapping[str, str]) -> str:
    port = environment.get("HEALTH_CHECK_PORT", "") or "9100"
    return url_here(environment.get("HEALTH_CHECK_HOST", ""), port, PATHS[question])


def url_here(host: str, port: int | str, path: str) -> str:
    """The URL under which this host reaches a server of its own that listens on `host` ('' or a wildcard = all)."""
    if host in ("", "0.0.0.0"):  # noqa: S104  # compared, not bound
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"


def _first_line(body: bytes) -> str:
    return body.decode("utf-8", "replace").strip().partition("\n")[0]


def main(arguments: Sequence[str]) -> int:
    """0 if all is well, 1 for everything else: Docker reserves the other codes."""
    if len(arguments) != 1 or arguments[0] not in PATHS:
        sys.stderr.write("usage: python -m kps.health live|ready\n")
        return 1
    well, words = probe(arguments[0], os.environ)
    sys.stdout.write(words + "\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
