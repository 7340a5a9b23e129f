"""What is left out of a request, as opposed to None, which is sent."""

from __future__ import annotations

from enum import Enum
from typing import Any


class Unset(Enum):
    """The type of UNSET."""

    UNSET = "unset"


UNSET = Unset.UNSET


def given(**params: Any) -> dict[str, Any]:
    """The parameters that were given."""
    return {name: value for name, value in params.items() if value is not UNSET}
