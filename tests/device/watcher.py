"""Somebody who stands at a virtual printer during a probe, and says what really comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kps.demo.virtual_printer import Paper, VirtualPrinter
from kps.device import probe as steps

LOOK_S = 5.0


class Interrupted(Exception):
    """Ctrl+C, as far as the device can see."""


@dataclass
class Watcher:
    """Somebody who does what is asked for, with a real device, and says what came out of it."""

    printer: VirtualPrinter
    lies: dict[str, bool] = field(default_factory=dict)
    """Question -> an answer that has nothing to do with the paper."""
    breaks_off_at: str = ""
    name: str = "kitchen-1"
    """What it is called in the POS."""
    present: bool = True
    look_s: float = LOOK_S
    """How long to wait for a paper that does not come."""
    asked: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    papers_before: int = 0

    def tell(self, text: str) -> None:
        self.told.append(text)

    def confirm(self, question: str) -> bool:
        self.asked.append(question)
        if question == self.breaks_off_at:
            raise Interrupted
        found = self.look(question)
        return self.lies.get(question, found)

    def look(self, question: str) -> bool:
        match question:
            case steps.CARD_IS_HERE:
                return self.sees(lambda paper: paper.text.lower().startswith(self.name) and paper.complete)
            case steps.OPEN_THE_COVER:
                self.papers_before = len(self.printer.papers)
                self.printer.open_cover()
            case steps.CLOSE_THE_COVER:
                self.printer.close_cover()
            case steps.FENCE_CAME_OUT:
                return self.sees(lambda paper: "FENCE" in paper.text)
            case steps.LINES_CAME_OUT:
                numbers = [f"{n:02} of 40" for n in range(1, 41)]
                return self.sees(lambda paper: all(number in paper.text for number in numbers))
            case steps.NOTHING_STRANGE:
                return not any("(H" in text for text in self.printer.texts())
            case steps.NOTHING_CAME_OUT:
                return len(self.printer.papers) == self.papers_before
            case steps.ALL_LINES_CAME_OUT:
                return self.sees(lambda paper: "0640" in paper.text) and any(
                    all(f"{n:04} " in paper.text for n in range(1, 641)) for paper in self.printer.papers
                )
            case steps.IS_IT_WELL:
                return not self.printer.sensors.offline
            case _:
                assert question.startswith("The printer cannot print: paper out"), question
                self.printer.load_paper()
        return True

    def sees(self, what: Callable[[Paper], bool]) -> bool:
        """Whether such a paper comes out soon."""
        try:
            self.printer.wait_for(lambda: any(what(paper) for paper in self.printer.papers), self.look_s)
        except TimeoutError:
            return False
        return True
