"""Token buckets and the limits' table."""

from __future__ import annotations

from hivectl import config
from hivectl.server.limits import Bucket, read_limits


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    bucket = Bucket(10, 5, 0.0)
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.refused == 1
    assert 0 < bucket.wait_ms() <= 100
    assert bucket.take(0.1)
    assert not bucket.take(0.1)
    assert [bucket.take(100.0) for _ in range(6)] == [True] * 5 + [False]


def test_refusals_are_forgotten_after_a_rest() -> None:
    bucket = Bucket(10, 10, 0.0)
    for _ in range(15):
        bucket.take(0.0)
    assert bucket.refused == 5
    bucket.take(10.0)
    assert bucket.refused == 0


def test_limits_come_from_the_settings() -> None:
    limits = read_limits(config.load({"limits.held_bytes": "64K", "limits.pong_s": 3}, {}))
    assert limits.held_bytes == limits.chunk_bytes == 64 * 1024
    assert limits.pong_s == 3
    assert limits.shown()["message_bytes"] == 8 * 1024 * 1024
