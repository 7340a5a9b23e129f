"""Decisions: plain functions over the model; the time is an argument."""
