import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from hivectl.client import aio, calls, calls_sync, generate, sync
from hivectl.protocol.methods import METHODS, params_model


@pytest.mark.parametrize(("module", "is_async"), [(calls, True), (calls_sync, False)])
def test_the_files_are_what_the_generator_writes(module, is_async):
    ruff = [sys.executable, "-m", "ruff", "format", "-q", "-"]
    done = subprocess.run(
        ruff, input=generate.render(is_async=is_async), capture_output=True, text=True, check=True
    )
    assert Path(module.__file__).read_text() == done.stdout


@pytest.mark.parametrize("client", [aio.Client, sync.SyncClient])
@pytest.mark.parametrize("row", METHODS.values(), ids=lambda row: row.name)
def test_every_method_of_the_wire_is_one_of_the_client(client, row):
    method = getattr(client, generate.method_name(row))
    if row.name in generate.HAND_WRITTEN:
        return
    names = [name for name in inspect.signature(method).parameters if name != "self"]
    assert names == [
        *[n for n, f in params_model(row).model_fields.items() if f.is_required()],
        *[n for n, f in params_model(row).model_fields.items() if not f.is_required()],
    ]
