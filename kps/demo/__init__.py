"""What a demonstration needs: an embedded PostgreSQL, the POS tables, virtual printers, orders."""
