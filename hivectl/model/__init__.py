"""Nouns: frozen dataclasses, enums, transition tables, errors. No I/O, no clock, no chance."""
