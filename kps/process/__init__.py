"""What ties the processes together: pipes, lock-free slots, the start of a child."""
