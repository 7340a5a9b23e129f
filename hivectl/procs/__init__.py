"""What a process is to us."""
