"""Messages of record: rotated JSONL segments, one dense sequence per stream."""
