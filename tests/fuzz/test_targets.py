"""The fuzz targets, shortly: what was found before, and plain inputs with damage that hypothesis chooses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import __main__ as command
from tests.fuzz import targets

FOUND = [(name, path.name) for name in targets.TARGETS for path in targets.found(name)]
SLOW = {"journal": 8, "http": 20, "frames": 20, "settings": 40}


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    targets.clean_up()


def test_the_command_knows_every_target() -> None:
    assert tuple(targets.TARGETS) == command.NAMES


@pytest.mark.parametrize(("name", "file"), FOUND)
def test_s36_what_was_found_before_holds(name: str, file: str) -> None:
    targets.TARGETS[name]((targets.CORPUS / name / file).read_bytes())


@pytest.mark.parametrize("name", targets.TARGETS)
def test_s36_every_seed_holds(name: str) -> None:
    for seed in targets.seeds(name):
        targets.TARGETS[name](seed)


edits = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(0, 30), st.binary(max_size=12)), max_size=5
)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_s36_damaged_inputs_hold(name: str) -> None:
    seeds = targets.seeds(name)

    @settings(max_examples=SLOW.get(name, 80), suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(seeds), edits)
    def play(seed: bytes, changes: list[tuple[int, int, bytes]]) -> None:
        data = bytearray(seed)
        for place, size, new in changes:
            at = place % (len(data) + 1)
            data[at : at + size] = new
        targets.TARGETS[name](bytes(data))

    play()
