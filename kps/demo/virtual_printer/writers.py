"""Who prints on the paper that is being made, and whether two do at the same time."""

from __future__ import annotations

from kps.demo.virtual_printer.connection_table import ConnectionTable


class Writers:
    """The connections that have printed on this paper, in the order in which they took turns."""

    def __init__(self, connections: ConnectionTable) -> None:
        self._connections = connections
        self._writers: list[int] = []
        self.concurrent_seen = False
        """Whether two connections ever printed on one paper at the same time."""

    def __bool__(self) -> bool:
        """Whether anybody has printed on this paper."""
        return bool(self._writers)

    def note(self, writer: int) -> None:
        """This connection prints."""
        if self._writers and writer != self._writers[-1]:
            others_open = any(self._connections.is_open(other) for other in self._writers if other != writer)
            if writer in self._writers or others_open:
                self.concurrent_seen = True
        if not self._writers or writer != self._writers[-1]:
            self._writers.append(writer)

    def new_paper(self) -> None:
        """Nobody has printed on the next one yet."""
        self._writers.clear()
