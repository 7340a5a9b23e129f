"""Use cases, one file per noun; the single door for every transport."""
