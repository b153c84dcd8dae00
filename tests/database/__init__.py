"""The queue on real PostgreSQL."""
