"""What ties the processes together: pipes, shared memory without locks, the start of a child."""
