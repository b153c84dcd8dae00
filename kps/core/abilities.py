"""What a device has shown that it can do, and which proof level it gets for that."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kps.core.tickets import ProofLevel


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a device has shown a probe that it can do. A command that it has not shown is never sent with a ticket."""

    level: ProofLevel | None = None
    """The best proof level that it has shown; None = it was never probed."""
    pushes: bool = False
    """It reports every change of its state by itself once asked to (`GS a`, automatic status back)."""
    clears: bool = False
    """It throws away what it has not printed, and says so (`DLE DC4` function 8)."""
    firmware: str = ""
    """The text of its firmware at the probe (`GS I` 65); another text means another device. Empty = it gave none."""

    @property
    def disbelieved(self) -> Abilities:
        """What is left when they turn out not to be true: those of a device that was never probed, and answers."""
        return Abilities(ProofLevel.NONE if self.level is ProofLevel.NONE else ProofLevel.REALTIME)

    def heard_on(self, *, fresh: bool) -> Abilities:
        """What of them may be used on a kind of connection.

        Not `fresh`: answers to what an earlier connection asked may arrive on it. Neither the answer to a fence nor the
        notice that a printer has cleared says which question it answers, so neither counts there; a process ID does.
        """
        if fresh or not (self.level is ProofLevel.FENCE or self.clears):
            return self
        level = ProofLevel.REALTIME if self.level is ProofLevel.FENCE else self.level
        return replace(self, level=level, clears=False)

    @staticmethod
    def parse(text: str) -> Abilities:
        """One entry of PROOF_LEVELS: a level, then `+pushes` and `+clears` if it does that. Raises ValueError."""
        level, *more = (part.strip().lower() for part in text.split("+"))
        unknown = set(more) - {"pushes", "clears"}
        if level not in set(ProofLevel) or unknown:
            raise ValueError(f"{text.strip()!r} is not one of {', '.join(ProofLevel)}, with +pushes or +clears")
        return Abilities(ProofLevel(level), "pushes" in more, "clears" in more)


def level_in_force(proven: ProofLevel | None, *, answered: bool) -> ProofLevel:
    """The proof level that a device gets now; `proven` None = it was never probed.

    Without a probe it is `realtime` if the device answers status questions, else `none`.
    """
    if proven is ProofLevel.NONE or not answered:
        return ProofLevel.NONE
    return proven or ProofLevel.REALTIME
