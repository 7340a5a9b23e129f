"""The stand-in for the daemon."""

import gc
import socket
import threading

from hivectl.testing.daemon import FakeDaemon


def test_whoever_was_accepted_just_before_it_stops_is_closed_with_the_others(tmp_path):
    """Its socket would stay open otherwise, and a warning meet whichever test comes later."""
    with FakeDaemon(tmp_path) as daemon, socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        has_stopped = threading.Event()

        async def stop():
            await daemon._stop(1012, None)
            has_stopped.set()

        def connect():
            peer.connect(str(daemon.path))
            # The turn in which it is accepted is the one in which stopping begins.
            daemon._loop.call_soon(lambda: daemon.start_task(stop()))

        daemon._loop.call_soon_threadsafe(connect)
        assert has_stopped.wait(10)
        assert daemon.connections_seen == 1
        assert peer.recv(1) == b""
        gc.collect()
