"""The StructuredOutput tool: what `--json-schema` asks of the model, and its five attempts."""

import json
from typing import TYPE_CHECKING

from mock_claude.calls import Call, Outcome, failed
from mock_claude.machine import Json

if TYPE_CHECKING:
    from mock_claude.turn import Turn

ATTEMPTS = 5
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
SAMPLES: Json = {"string": "mock", "number": 1, "integer": 1, "boolean": True, "array": []}


def sample(schema: Json) -> object:
    """A value that fits a simple schema."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("type", "object") == "object":
        properties: Json = schema.get("properties", {})
        return {name: sample(inner) for name, inner in properties.items()}
    return SAMPLES.get(str(schema.get("type")))


def faults(value: object, schema: Json, where: str = "root") -> list[str]:
    """How a value breaks the schema: missing properties and wrong types."""
    wanted = schema.get("type")
    kinds = TYPES.get(wanted) if isinstance(wanted, str) else None
    if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
        return [f"{where}: must be {wanted}"]
    if not isinstance(value, dict):
        return []
    found = [
        f"{where}: must have required property '{name}'"
        for name in schema.get("required", [])
        if name not in value
    ]
    for name, inner in schema.get("properties", {}).items():
        if name in value:
            found += faults(value[name], inner, f"{where}/{name}")
    return found


def answer(turn: "Turn", value: object) -> None:
    """Give the structured answer; a wrong one is given again until the attempts are used up."""
    from mock_claude.turn import Ending

    cli = turn.cli
    schema = json.loads(cli.options.value("json-schema", "{}"))
    value = sample(schema) if value is None else value
    text = f"Output does not match required schema: {', '.join(faults(value, schema))}"
    is_good = not faults(value, schema)
    for _attempt in range(1 if is_good else ATTEMPTS):
        fields = value if isinstance(value, dict) else {"value": value}
        call = Call(cli.ids.tool_use(), "StructuredOutput", fields)
        turn.speech.call(call, 0)
        turn.after_call("tool_use")
        done = "Structured output provided successfully"
        outcome = Outcome(done, done) if is_good else failed(text)
        turn.report(call, outcome, {"decision": "accept", "source": "config"})
    if not is_good:
        error = (
            f"Failed to provide valid structured output after {ATTEMPTS} attempts — last "
            f"StructuredOutput error: {text}"
        )
        kind = "error_max_structured_output_retries"
        raise Ending(kind, "structured_output_retry_exhausted", "tool_use", error)
    turn.structured = value
    turn.speech.last_text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    turn.needs_answer = False
