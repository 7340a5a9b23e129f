"""State of record: SQLite behind one writer thread."""
