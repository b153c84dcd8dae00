"""Documents to ESC/POS bytes."""
