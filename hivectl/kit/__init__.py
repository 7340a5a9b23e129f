"""Tools that know nothing of the field; standard library only."""
