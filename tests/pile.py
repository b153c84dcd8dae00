"""A pile of waiting tickets, as a POS leaves it that went on for days without a printer service."""

from __future__ import annotations

from datetime import timedelta

from kps.demo.orders import PosWriter


def pile_up(
    pos: PosWriter, count: int, station: str = "kitchen", *, age: timedelta = timedelta(days=2), items: bool = False
) -> tuple[int, int]:
    """`count` `new` tickets of one bill, one every millisecond; returns the first and the last number.

    `items` gives each its dish: without one it has never been written whole, and nobody prints it.
    """
    model = pos.ticket(station, [("Old Soto", 1)])
    pos.execute("DELETE FROM kitchen_kitchenticketlog WHERE ticket_id = %s", [model])
    pos.execute("ALTER TABLE kitchen_kitchenticket DISABLE TRIGGER USER")
    columns = ", ".join(
        row["column_name"]
        for row in pos.rows(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_name = 'kitchen_kitchenticket' AND column_name NOT IN ('id', 'created_at')"
        )
    )
    (made,) = pos.rows(
        f"""WITH made AS (
              INSERT INTO kitchen_kitchenticket ({columns}, created_at)
              SELECT {columns}, clock_timestamp() - %s + n * interval '1 millisecond'
                FROM kitchen_kitchenticket t, generate_series(1, %s) n WHERE t.id = %s ORDER BY n RETURNING id
            ), dishes AS (
              INSERT INTO kitchen_kitchenticketitem (quantity, bill_item_id, kitchen_ticket_id)
              SELECT i.quantity, i.bill_item_id, made.id FROM made, kitchen_kitchenticketitem i
               WHERE i.kitchen_ticket_id = %s AND %s
            ) SELECT min(id) AS first, max(id) AS last FROM made""",
        [age, count, model, model, items],
    )
    pos.delete_ticket(model)
    pos.execute("ALTER TABLE kitchen_kitchenticket ENABLE TRIGGER USER")
    return int(made["first"]), int(made["last"])
