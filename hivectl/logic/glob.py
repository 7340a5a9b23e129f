r"""Globs over whole values in bounded time: `*` any text, `?` one character, `\` takes the next one literally.

Not fnmatch: its character classes surprise in rules about commands, and regular expressions can be
made to run for ever by the text they are held against. In paths `*` stays within one name and `**`
stands for any number of names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

PATTERN_MAX = 4096
WILDCARDS_MAX = 20

STAR: Final = -1
ONE: Final = -2

Tokens = tuple[str | int, ...]
"""Characters to be met exactly, STAR and ONE."""

Accepts = Callable[[str], bool]
"""Whether a wild card may stand for this character."""


def anything(_: str) -> bool:
    """For wild cards without limits."""
    return True


@lru_cache(maxsize=1024)
def parse(pattern: str) -> Tokens:
    """The tokens of a pattern. Raises ValueError when it ends in a lone backslash or is too long."""
    if len(pattern) > PATTERN_MAX:
        raise ValueError(f"is longer than {PATTERN_MAX} characters")
    tokens: list[str | int] = []
    letters = iter(pattern)
    for letter in letters:
        if letter == "\\":
            escaped = next(letters, None)
            if escaped is None:
                raise ValueError("ends in a lone backslash")
            tokens.append(escaped)
        elif letter == "*":
            if not tokens or tokens[-1] != STAR:
                tokens.append(STAR)
        else:
            tokens.append(ONE if letter == "?" else letter)
    if wildcards(tuple(tokens)) > WILDCARDS_MAX:
        raise ValueError(f"has more than {WILDCARDS_MAX} wild cards")
    return tuple(tokens)


def wildcards(tokens: Tokens) -> int:
    """How many wild cards there are."""
    return sum(isinstance(token, int) for token in tokens)


def escape(text: str) -> str:
    """A pattern that matches `text` and nothing else."""
    return "".join(f"\\{letter}" if letter in "\\*?" else letter for letter in text)


def matches(tokens: Tokens, text: str, accepts: Accepts = anything) -> bool:
    """Whether the whole of `text` is matched; time is text times wild cards, never more."""
    states = _skip_stars(tokens, {0})
    for letter in text:
        reached: set[int] = set()
        for state in states:
            if state == len(tokens):
                continue
            token = tokens[state]
            if token == STAR:
                if accepts(letter):
                    reached.add(state)
            elif token == letter or (token == ONE and accepts(letter)):
                reached.add(state + 1)
        if not reached:
            return False
        states = _skip_stars(tokens, reached)
    return len(tokens) in states


def _skip_stars(tokens: Tokens, states: set[int]) -> set[int]:
    """A star may stand for nothing."""
    found = set(states)
    for state in states:
        following = state
        while following < len(tokens) and tokens[following] == STAR:
            following += 1
            found.add(following)
    return found


def matches_path(pattern: list[str], names: list[str], *, hidden: bool) -> bool:
    """Whether a path (a list of names) is matched by a list of patterns, `**` among them.

    Without `hidden` no wild card stands for a name's leading dot, as in a shell.
    """
    # The row says which patterns may follow the names met so far.
    reachable = _after_stars(pattern, {0})
    for name in names:
        following: set[int] = set()
        for position in reachable:
            if position == len(pattern):
                continue
            if pattern[position] == "**":
                if hidden or not name.startswith("."):
                    following.add(position)
            elif _name_matches(pattern[position], name, hidden=hidden):
                following.add(position + 1)
        reachable = _after_stars(pattern, following)
    return len(pattern) in reachable


def _after_stars(pattern: list[str], positions: set[int]) -> set[int]:
    found = set(positions)
    for position in positions:
        following = position
        while following < len(pattern) and pattern[following] == "**":
            following += 1
            found.add(following)
    return found


def _name_matches(pattern: str, name: str, *, hidden: bool) -> bool:
    tokens = parse(pattern)
    if not hidden and name.startswith(".") and tokens and isinstance(tokens[0], int):
        return False
    return matches(tokens, name)
