"""A garden with rows of plants."""


def plant(rows: int, kinds: list[str]) -> list[str]:
    """One kind for each row, in turn."""
    return [kinds[row % len(kinds)] for row in range(rows)]
