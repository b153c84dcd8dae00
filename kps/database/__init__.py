"""The only SQL of the service: one function per verb, every write fenced by a token."""

from kps.database.connection import Database, DatabaseTrouble

__all__ = ["Database", "DatabaseTrouble"]
