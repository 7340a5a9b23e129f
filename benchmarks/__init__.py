"""Benchmarks: one command per metric, and `python -m benchmarks` for all of them."""
