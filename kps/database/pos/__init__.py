"""The POS: everything that KPS reads of its tables, and the little that it writes there.

`introspect` looks at the tables and chooses a PosAdapter, which the statements about schema kps are put together with:
it gives them relations and fragments of SQL. Another age of the tables, or another POS, is a change of this folder:

- `tables`: their names, and which columns are read and written
- `introspection`: what is there, what is missing, which rights are lacking
- `adapter`: the relations, and what is told apart by the age of the tables
- `values`: what becomes of the POS's own words and JSON
- `trigger`: what wakes KPS

The statements call the columns of these relations by the names that `adapter` lists, whatever the POS calls them; and
a ticket has four statuses, `new`, `printing`, `printed` and `failed`.
"""

from kps.database.pos.adapter import PosAdapter
from kps.database.pos.introspection import introspect

__all__ = ["PosAdapter", "introspect"]
