"""How programs talk to the daemon."""
