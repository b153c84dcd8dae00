"""What ties the processes together: pipes, lock-free shared, the start of a child."""
