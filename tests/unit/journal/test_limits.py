from __future__ import annotations

from hivectl.journal.limits import MIB, JournalLimits


def test_the_defaults_are_what_the_product_promises() -> None:
    limits = JournalLimits()
    assert limits.segment_bytes == 64 * MIB
    assert limits.segment_age_s == 86_400
    assert limits.sync_interval_s == 0.1
    assert limits.spill_bytes == 256 * 1024
    assert limits.ring_bytes == MIB
    assert limits.retention_bytes is None
    assert limits.retention_age_s is None
    assert limits.snapshot_bytes <= MIB
