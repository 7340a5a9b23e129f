"""What a coding agent is to us."""
