"""The only device socket of the service: connect, ask, send within a deadline, read replies."""

from kps.device.connection import Device, Ready, Unable

__all__ = ["Device", "Ready", "Unable"]
