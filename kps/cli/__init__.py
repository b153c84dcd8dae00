"""The `kps` command."""
