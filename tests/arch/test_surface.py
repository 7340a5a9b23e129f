"""What others may rely on, and what a quick command must not load."""

import inspect
import json
import subprocess
import sys

import pytest

from hivectl.protocol.methods import METHODS

HEAVY = {
    "aiosqlite",
    "asyncio",
    "httptools",
    "msgspec",
    "psutil",
    "pydantic",
    "rich",
    "starlette",
    "tomlkit",
    "uvicorn",
    "websockets",
    "yaml",
}


def loaded_by(program: str) -> set[str]:
    """Names of HEAVY that are in sys.modules after `program` ran."""
    ending = f"\nimport json, sys\nsys.stderr.write('\\n' + json.dumps(sorted(set(sys.modules) & {HEAVY!r})))"
    done = subprocess.run(
        [sys.executable, "-c", program + ending],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_importing_the_package_loads_nothing() -> None:
    assert (
        loaded_by("import hivectl, hivectl.client, hivectl.testing, hivectl.protocol.methods")
        == set()
    )


def test_help_loads_none_of_the_heavy_modules() -> None:
    program = """
import sys
sys.argv = ["hivectl", "--help"]
from hivectl.cli.main import main
try:
    code = main()
except SystemExit as end:
    code = end.code
assert not code, code
"""
    assert loaded_by(program) - {"rich"} == set()


def test_loading_the_command_line_loads_none_of_the_heavy_modules() -> None:
    assert loaded_by("import hivectl.cli.main") == set()


def test_daemon_command_loads_its_heavy_parts_late() -> None:
    assert loaded_by("import hivectl.daemon.__main__") <= {"asyncio"}


def test_shim_loads_the_standard_library_alone() -> None:
    program = """
import sys
before = set(sys.modules)
import hivectl.procs.shim
extra = {name for name in set(sys.modules) - before if name.startswith("hivectl")}
assert extra == {"hivectl", "hivectl.procs", "hivectl.procs.shim"}, extra
"""
    assert loaded_by(program) == set()


def test_public_names_are_pinned() -> None:
    import hivectl
    import hivectl.client

    assert getattr(hivectl, "__all__", []) == []
    assert hivectl.client.__all__ == [
        "Client",
        "HiveError",
        "Job",
        "Notice",
        "Permanent",
        "Subscription",
        "SyncClient",
        "Unanswered",
        "Worker",
    ]
    for name in hivectl.client.__all__:
        assert getattr(hivectl.client, name)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"auth"}))
def test_every_method_is_a_method_of_both_clients(method: str) -> None:
    from hivectl.client import Client, SyncClient

    name = method.replace(".", "_")
    for client in (Client, SyncClient):
        assert inspect.isfunction(getattr(client, name, None)), f"{client.__name__}.{name}"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_names_its_scope_params_and_result(method: str) -> None:
    from hivectl.protocol import methods

    row = METHODS[method]
    assert row.scope is not None or method in {"auth", "ping"}
    assert methods.params_model(row).model_json_schema()["additionalProperties"] is False
    assert methods.result_type(row)
