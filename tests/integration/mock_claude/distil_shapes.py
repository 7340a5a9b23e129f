"""Distil recordings of the real CLI into shapes.json: facts about structure, no prose.

Usage: python distil_shapes.py TRANSCRIPTS_DIR > shapes.json

Of every recording it keeps the flags, the environment, the exit code and, per event, its label and
the number of its shape. A shape tells the keys and the types of values: `s` string, `n` number,
`b` boolean, `0` null, `o` any object, a list of one shape, or an object.
"""

import json
import sys
from pathlib import Path

OPAQUE = {
    "input",
    "tool_input",
    "updatedInput",
    "answers",
    "by_type",
    "commands",
    "models",
    "agents",
}
BY_MODEL = {"modelUsage", "model_usage_since_last_result"}


def shape_of(value, key=""):
    """The shape of a JSON value."""
    if key in OPAQUE and isinstance(value, dict | list):
        return "o"
    if isinstance(value, dict):
        if key in BY_MODEL:
            return {"*": shape_of(next(iter(value.values())))} if value else "o"
        return {name: shape_of(inner, name) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [shape_of(value[0])] if value else []
    if value is None:
        return "0"
    return "b" if isinstance(value, bool) else "n" if isinstance(value, int | float) else "s"


def stream_label(event):
    """What kind of stream event this is: its type, and that of its block or delta."""
    part = event.get("delta") or event.get("content_block") or {}
    return " ".join(word for word in (event.get("type"), part.get("type")) if word)


def label_of(event):
    """What kind of event this is, in one word."""
    inner = {
        "system": event.get("subtype"),
        "result": event.get("subtype"),
        "stream_event": stream_label(event.get("event") or {}),
        "control_request": (event.get("request") or {}).get("subtype"),
        "control_response": (event.get("response") or {}).get("subtype"),
        "command_lifecycle": event.get("state"),
    }.get(event["type"])
    message = event.get("message")
    if isinstance(message, dict):
        content = message.get("content")
        inner = content[0]["type"] if isinstance(content, list) and content else "string"
    return f"{event['type']}:{inner}" if inner else event["type"]


def events_of(text):
    """The events of a recording: one per line, or one array."""
    events = []
    for line in text.splitlines():
        item = json.loads(line)
        events += item if isinstance(item, list) else [item]
    return events


def flags_of(argv):
    """The arguments without the program and the prompt, which is always the second word."""
    words = argv[1:]
    if words[:1] == ["-p"] and len(words) > 1 and not words[1].startswith("--"):
        words = words[:1] + words[2:]
    return words


def distil(folder):
    """All recordings of a folder."""
    shapes, numbers, recordings = [], {}, {}
    for path in sorted(folder.glob("*.meta.json")):
        meta = json.loads(path.read_text())
        name = path.name.removesuffix(".meta.json")
        stdout = folder / f"{name}.stdout.jsonl"
        stderr = folder / f"{name}.stderr.txt"
        labels = []
        for event in events_of(stdout.read_text()) if stdout.exists() else []:
            shape = shape_of(event)
            key = json.dumps(shape)
            if key not in numbers:
                numbers[key] = len(shapes)
                shapes.append(shape)
            labels.append([label_of(event), numbers[key]])
        recordings[name] = {
            "flags": flags_of(meta["argv"]),
            "env": meta["env"],
            "exit_code": meta["exit_code"],
            "events": labels,
            **({"stderr": stderr.read_text().strip()} if stderr.exists() else {}),
        }
    return {"cli_version": "2.1.329", "recordings": recordings, "shapes": shapes}


def main():
    """Write the distillate, one recording and one shape per line."""
    found = distil(Path(sys.argv[1]))
    compact = {"separators": (",", ":"), "ensure_ascii": False}
    runs = [f"{json.dumps(k)}:{json.dumps(v, **compact)}" for k, v in found["recordings"].items()]
    shapes = [json.dumps(shape, **compact) for shape in found["shapes"]]
    sys.stdout.write(
        f'{{"cli_version":"{found["cli_version"]}","recordings":{{\n'
        + ",\n".join(runs)
        + '\n},"shapes":[\n'
        + ",\n".join(shapes)
        + "\n]}\n"
    )


if __name__ == "__main__":
    main()
