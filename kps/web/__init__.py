"""The HTTP application: health, metrics, status and the two routes the POS calls."""
