"""Identifiers and filler text that repeat exactly when the seed does."""

import os

MASK = (1 << 64) - 1
WORDS = [
    "amber",
    "birch",
    "canyon",
    "delta",
    "ember",
    "fjord",
    "garnet",
    "harbor",
    "island",
    "juniper",
    "kelp",
    "lantern",
    "meadow",
    "nectar",
    "orchard",
    "pebble",
    "quartz",
    "river",
    "saffron",
    "timber",
    "umbra",
    "velvet",
    "willow",
    "yarrow",
    "zephyr",
]


class Ids:
    """A stream of ids. With a seed the same calls give the same ids; without one they are random."""

    def __init__(self, seed: int | None) -> None:
        self._state = int.from_bytes(os.urandom(8), "big") if seed is None else seed & MASK

    def number(self) -> int:
        """The next 64 bits (splitmix64: the `random` module would cost 8 ms at start)."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
        return mixed ^ (mixed >> 31)

    def hex(self, length: int) -> str:
        """So many hexadecimal digits."""
        text = ""
        while len(text) < length:
            text += f"{self.number():016x}"
        return text[:length]

    def uuid(self) -> str:
        """A version 4 UUID."""
        digits = self.hex(32)
        variant = "89ab"[int(digits[16], 16) % 4]
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
        )

    def message(self) -> str:
        """An API message id."""
        return "msg_" + self.hex(22)

    def request(self) -> str:
        """An API request id."""
        return "req_" + self.hex(20)

    def tool_use(self) -> str:
        """The id of a tool call."""
        return "toolu_" + self.hex(22)

    def run(self) -> str:
        """The id of a background run."""
        return f"0{self.hex(8)}-{self.hex(8)}"

    def filler(self, size_bytes: int) -> str:
        """Exactly so many bytes of ASCII words."""
        start = self.number() % len(WORDS)
        words = " ".join(WORDS[start:] + WORDS[:start])
        if size_bytes <= 0:
            return ""
        return ((words + " ") * (size_bytes // (len(words) + 1) + 1))[:size_bytes]


def is_uuid(text: str) -> bool:
    """Whether the text has the shape of a UUID."""
    parts = text.split("-")
    return [len(p) for p in parts] == [8, 4, 4, 4, 12] and all(
        c in "0123456789abcdefABCDEF" for part in parts for c in part
    )
