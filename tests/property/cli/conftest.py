"""The scripted daemon and the CLI in this process, as in the unit tests of the CLI."""

from tests.unit.cli.conftest import daemon, hive, kit, script

__all__ = ["daemon", "hive", "kit", "script"]
