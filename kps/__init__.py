"""KPS, the kitchen printer service: tickets from a restaurant's POS database to paper."""

__version__ = "0.1.0"
