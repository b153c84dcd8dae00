"""What a printer calls itself (`GS I`)."""

from __future__ import annotations

from dataclasses import dataclass

from kps.core.status import TextBlock
from kps.device.probe_wire import Wire

_MODEL, _FIRMWARE, _MAKER, _NAME, _SERIAL = 1, 65, 66, 67, 68
"""The n of `GS I n`. Source: TM-U220 and HPRT TP80K manuals."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a printer calls itself, '' where it is silent."""

    firmware: str = ""
    maker: str = ""
    name: str = ""
    serial: str = ""


def identify(wire: Wire, answer_s: float) -> Identity:
    """Ask the printer what it calls itself; each question may stay without an answer for `answer_s`."""
    number = _ask(wire, _MODEL, answer_s)
    texts = {n: _ask(wire, n, answer_s) for n in (_FIRMWARE, _MAKER, _NAME, _SERIAL)}
    wire.listen(answer_s / 4)  # a late answer must not be taken for the answer to the next question
    return Identity(
        firmware=texts[_FIRMWARE],
        maker=texts[_MAKER],
        name=texts[_NAME] or (f"model {number}" if number else ""),
        serial=texts[_SERIAL],
    )


def _ask(wire: Wire, n: int, answer_s: float) -> str:
    """The answer to `GS I n` as text; '' = none."""
    wire.begin()
    wire.say(b"\x1dI" + bytes((n,)))

    def found() -> str:
        if n == _MODEL:
            return "".join(f"{value:02X}" for value in wire.byte_answers[:1])
        blocks = (reply for reply in wire.heard if isinstance(reply, TextBlock) and reply.identity)
        return next((block.body.decode("ascii", "replace").strip() for block in blocks), "")

    wire.until(lambda: bool(found()), answer_s)
    return found()
