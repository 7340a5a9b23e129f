"""JSON Schemas of everything on the wire, derived from the tables: what schema.get answers."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from hivectl.model.errors import TABLE
from hivectl.model.event import EVENTS
from hivectl.protocol.methods import METHODS, PROTOCOL_VERSION, params_model, result_type

if TYPE_CHECKING:
    from hivectl.protocol.results import SchemaResult


@cache
def build_schema() -> SchemaResult:
    """Schemas by name. Made once: it takes some tens of milliseconds."""
    methods = {
        method.name: {
            "summary": method.summary,
            "scope": method.scope.value if method.scope else None,
            "socket_only": method.socket_only,
            "changes": method.changes,
            "params": params_model(method).model_json_schema(),
            "result": _result_schema(method.result),
        }
        for method in METHODS.values()
    }
    events = {
        name: {
            "meaning": kind.meaning,
            "data": kind.data,
            "durable": kind.is_durable,
            "views": sorted(kind.views),
        }
        for name, kind in EVENTS.items()
    }
    errors = {
        name: {
            "code": kind.rpc,
            "http": kind.http,
            "exit": int(kind.exit),
            "retryable": kind.retryable,
            "meaning": kind.meaning,
            "hint": kind.hint,
        }
        for name, kind in TABLE.items()
    }
    return {"protocol": PROTOCOL_VERSION, "methods": methods, "events": events, "errors": errors}


@cache
def _result_schema(name: str) -> dict[str, Any]:
    method = next(method for method in METHODS.values() if method.result == name)
    return msgspec.json.schema(result_type(method))
