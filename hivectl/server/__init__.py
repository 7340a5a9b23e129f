"""Listeners, connections, dispatch."""
