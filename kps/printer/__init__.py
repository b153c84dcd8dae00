"""The printer process: one per physical device; prints, proves and settles."""
