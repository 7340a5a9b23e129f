"""Live state and the passage of time."""
