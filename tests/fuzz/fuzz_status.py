"""Fuzzes the reader of printers' replies: `python tests/fuzz/fuzz_status.py SECONDS [libFuzzer options]`.

`python tests/fuzz/fuzz_status.py --input HEX` checks one input again, without the fuzzer.

Exit codes: 0 = nothing found, 1 = a property does not hold (the input is shown), 77 = the fuzzer is not here.
"""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

FOUND, NOT_HERE = 1, 77
"""Exit codes; the first is also that of an exception."""
FLOW_CONTROL = (0x11, 0x13)
DICTIONARY = Path(__file__).with_name("replies.dict")
MAX_INPUT = 1024
"""Several of the longest blocks that the reader waits for."""


class DoesNotHold(AssertionError):
    """A property of the reader is violated; the message says which."""


def check(data: bytes) -> None:
    """Every property for this stream. Raises DoesNotHold, or whatever the reader raises."""
    from kps.core.status import MAX_BLOCK, ReplyReader

    whole = ReplyReader()
    replies = whole.feed(data)
    used = sum(len(reply.raw) for reply in replies)
    dropped = len(data) - used - whole.noise - whole.pending
    _want(0 <= dropped <= _flow_control(data), f"{dropped} bytes are neither reply nor noise nor pending")
    _want(whole.pending < MAX_BLOCK, f"{whole.pending} bytes are held back")

    for pieces in (_pieces(data), (data[at : at + 1] for at in range(len(data)))):
        cut = ReplyReader()
        heard = []
        for piece in pieces:
            expected = cut.noise + cut.pending + len(piece)
            fresh = cut.feed(piece)
            heard += fresh
            gone = expected - cut.noise - cut.pending - sum(len(reply.raw) for reply in fresh)
            _want(0 <= gone <= MAX_BLOCK + len(piece), f"{gone} bytes vanish in one piece")
        _want(heard == replies, f"cut: {heard}, whole: {replies}")
        _want((cut.noise, cut.pending) == (whole.noise, whole.pending), "the cut changes what is noise or pending")

    again = ReplyReader()
    stream = b"".join(reply.raw for reply in replies)
    _want(again.feed(stream) == replies, f"{replies} do not read as themselves")
    _want((again.noise, again.pending) == (0, 0), "replies alone leave noise or a rest")

    pending = whole.pending
    noise = whole.noise
    whole.flush()
    _want((whole.noise, whole.pending) == (noise + pending, 0), "a flush does not make noise of what waits")


def _want(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DoesNotHold(otherwise)


def _flow_control(data: bytes) -> int:
    return sum(data.count(code) for code in FLOW_CONTROL)


def _pieces(data: bytes) -> Iterator[bytes]:
    """The stream cut somewhere, always at the same places for the same stream."""
    chance = random.Random(zlib.crc32(data))
    while data:
        length = chance.choice((1, 2, 3, chance.randint(1, len(data))))
        yield data[:length]
        data = data[length:]


def examine(data: bytes) -> None:
    """`check`, and show the input if it fails."""
    try:
        check(data)
    except Exception:
        sys.stderr.write(f"\ninput: {data.hex() or '(nothing)'}\n")
        raise


def fuzz(seconds: int, options: list[str]) -> None:
    """Let the fuzzer look for so long; it ends the process."""
    import atheris

    with atheris.instrument_imports(include=["kps"]):
        import kps.core.status  # noqa: F401  # what is imported here is what the fuzzer can see into
    bounds = [f"-max_total_time={seconds}", f"-max_len={MAX_INPUT}", "-len_control=0", "-timeout=10"]
    ending = [f"-error_exitcode={FOUND}", "-exact_artifact_path=/dev/null"]
    atheris.Setup([sys.argv[0], *bounds, *ending, f"-dict={DICTIONARY}", *options], examine)
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    """The command line."""
    match arguments:
        case ["--input", given]:
            examine(bytes.fromhex(given))
            return 0
        case [seconds, *options] if seconds.isdigit():
            if find_spec("atheris") is None:
                sys.stderr.write(
                    "The fuzzer (atheris, the extra `fuzz`) is not installed; it exists for CPython 3.11-3.13.\n"
                )
                return NOT_HERE
            fuzz(int(seconds), options)
            return 0
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
