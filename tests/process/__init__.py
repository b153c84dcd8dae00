"""Pipes and slots between real processes."""
