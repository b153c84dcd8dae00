"""What the roles of one instance have in common: a connection, the statements, who they are, and a few verbs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kps.core.tickets import PrinterKey
from kps.core.work import Work
from kps.database.connection import Database
from kps.database.pos import PosAdapter
from kps.database.statements import Statements


@dataclass(frozen=True, slots=True)
class Released:
    """What came of giving claims back."""

    count: int
    """So many still were ours."""
    left: frozenset[Work]
    """Still ours: somebody has their rows locked."""


class Role:
    """Verbs of one instance (`me`: its owner uuid) fitted to one POS. Every verb may raise DatabaseTrouble."""

    def __init__(self, database: Database, pos: PosAdapter, me: str, instance: str) -> None:
        self.database = database
        self.pos = pos
        self.sql = Statements(pos)
        self.me = me
        self.instance = instance

    def release(self, works: Iterable[Work], why: str) -> Released:
        """Give claimed work back, unmarked."""
        claimed = {work.token: work for work in works}
        count, left = 0, set[Work]()
        for kind in dict.fromkeys(work.kind for work in claimed.values()):
            same = [work for work in claimed.values() if work.kind is kind]
            given = self.database.run(
                self.sql.of(kind).release, ids=[work.id for work in same], tokens=[work.token for work in same],
                text=why, instance=self.instance,
            )[0]  # fmt: skip
            count += given.released
            left |= {work for work in same if work.id in given.left}
        return Released(count, frozenset(left))

    def set_state(
        self,
        key: PrinterKey,
        epoch: int,
        *,
        state: str,
        text: str,
        paper: str,
        response_ms: int | None,
        answers: bool | None,
        cover_open: bool | None = None,
        cutter_ok: bool | None = None,
    ) -> bool:
        """Say what the device of mine is like; False if it is not mine any more."""
        rows = self.database.run(
            self.sql.set_state,
            key=key,
            me=self.me,
            epoch=epoch,
            state=state,
            text=text,
            paper=paper,
            response=response_ms,
            answers=answers,
            cover_open=cover_open,
            cutter_ok=cutter_ok,
        )
        return bool(rows)

    def say_why(self, rows: Mapping[int, tuple[PrinterKey, str]], *, news: bool = True) -> frozenset[int]:
        """Say in printer rows (id -> its device, the reason) why they cannot print; returns those that say it now.

        A row that somebody is writing is left out, and one whose device has another owner. What is no `news` is not
        said again within a minute.
        """
        found = self.database.run(
            self.sql.say_why, rows=list(rows), keys=[key for key, _ in rows.values()],
            texts=[text for _, text in rows.values()], me=self.me, news=news,
        )  # fmt: skip
        return frozenset(row.id for row in found)
