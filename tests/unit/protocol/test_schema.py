"""Schemas derive from the tables."""

from __future__ import annotations

import json

from hivectl.model.errors import TABLE
from hivectl.model.event import EVENTS
from hivectl.protocol.methods import METHODS, params_model, result_type
from hivectl.protocol.schema import build_schema


def test_everything_has_its_schema() -> None:
    schema = build_schema()
    assert set(schema["methods"]) == set(METHODS)
    assert set(schema["events"]) == set(EVENTS)
    assert set(schema["errors"]) == set(TABLE)
    json.dumps(schema)


def test_parameters_are_closed_and_results_open() -> None:
    for name, row in build_schema()["methods"].items():
        assert row["params"]["additionalProperties"] is False, name
        assert "$ref" in row["result"] or row["result"]["type"] == "object", name


def test_every_method_names_models_that_exist() -> None:
    for method in METHODS.values():
        assert params_model(method).model_config["extra"] == "forbid"
        assert result_type(method).__doc__
