"""The log of record: one append-only, densely numbered stream of JSON lines per home stream."""
