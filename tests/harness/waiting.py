"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], *, within_s: float = 15.0, what: str = "") -> T:
    """Look until it is truthy, and return it. An AssertionError in `look` counts as "not yet"."""
    deadline = time.monotonic() + within_s
    pause = 0.005
    seen: object = None
    while True:
        try:
            found = look()
            if found:
                return found
            seen = found
        except AssertionError as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what or look}; last: {seen!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
