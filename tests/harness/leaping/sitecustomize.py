"""A machine whose clock is set: Python imports this first where PYTHONPATH names its directory.

The wall clock is off by as many seconds as the file LEAP_FILE says, now; the monotonic clock is what it is.
"""

import os
import time

_file = os.environ["LEAP_FILE"]
_time_ns = time.time_ns


def _leapt_ns() -> int:
    try:
        with open(_file) as file:  # noqa: PTH123  whatever it imports is imported too early
            return _time_ns() + int(float(file.read() or 0) * 1e9)
    except OSError:
        return _time_ns()


time.time_ns = _leapt_ns
time.time = lambda: _leapt_ns() / 1e9
