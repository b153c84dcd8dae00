"""Decisions without side effects: values in, values out; the time is an argument."""
