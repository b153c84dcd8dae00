"""Everything that is said to a printer and heard from it; no other package opens a connection to one."""

from kps.device.connection import Device, Ready, Unable

__all__ = ["Device", "Ready", "Unable"]
