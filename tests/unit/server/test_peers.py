"""Whose process is at the other end: what cannot be told for sure counts as an execution."""

import os
import sys

import pytest

from hivectl.procs import shim
from hivectl.server import peers

ANCESTRY = peers.Ancestry(kin=shim.SYSTEM)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ancestry is read from /proc")


def test_a_process_of_nobody_here_is_a_persons():
    assert peers.execution_of_process(os.getpid(), ANCESTRY) is None


def test_a_dying_process_shows_neither_environment_nor_parent_and_counts_as_an_execution():
    child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        os.waitid(
            os.P_PID, child, os.WEXITED | os.WNOWAIT
        )  # it has ended, and nobody has fetched it
        assert peers.execution_of_process(child, ANCESTRY) == peers.UNKNOWN_EXECUTION
    finally:
        os.waitpid(child, 0)
    assert peers.execution_of_process(child, ANCESTRY) == peers.UNKNOWN_EXECUTION
