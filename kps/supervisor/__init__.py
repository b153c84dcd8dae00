"""The supervisor process: starts, watches and restarts the others, keeps leases, serves HTTP."""
