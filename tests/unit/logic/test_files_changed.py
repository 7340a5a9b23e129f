"""Paths from events of the watcher, or else from calls of writing tools."""

import json

from hivectl.logic.files_changed import Files, may_write


def call(name: str, **fields: str) -> bytes:
    block = {"type": "tool_use", "name": name, "input": fields}
    raw = {"type": "assistant", "message": {"content": [{"type": "text", "text": "x"}, block]}}
    return json.dumps({"kind": "assistant", "raw": raw}, separators=(",", ":")).encode()


def test_calls_of_writing_tools_tell_paths() -> None:
    files = Files()
    for data in (
        call("Write", file_path="/p/b"),
        call("NotebookEdit", notebook_path="/p/a"),
        call("Read", file_path="/p/c"),
    ):
        files.see("message", data)
    assert files.paths() == ["/p/a", "/p/b"]


def test_a_call_that_was_refused_or_failed_changed_nothing() -> None:
    files = Files()
    for name, path in (("t1", "/p/denied"), ("t2", "/p/written")):
        block = {"type": "tool_use", "id": name, "name": "Write", "input": {"file_path": path}}
        files.see("message", json.dumps({"raw": {"message": {"content": [block]}}}).encode())
    answers = [
        {"type": "tool_result", "tool_use_id": "t1", "is_error": True, "content": "no"},
        {"type": "tool_result", "tool_use_id": "t2", "is_error": False, "content": "done"},
    ]
    failure = json.dumps({"raw": {"message": {"content": answers}}}).encode()
    assert may_write(failure)
    files.see("message", failure)
    assert files.paths() == ["/p/written"]


def test_what_changed_on_disk_counts_more_than_what_was_meant() -> None:
    files = Files()
    files.see("message", call("Write", file_path="/p/meant"))
    files.see("file.changed", b'{"path":"one"}')
    files.see("file.changed", b'{"paths":["two"],"changes":[{"path":"three"}]}')
    assert files.paths() == ["one", "three", "two"]


def test_what_cannot_be_read_is_passed_over() -> None:
    files = Files()
    for data in (
        b"[]",
        b"{",
        b'{"raw":5}',
        b'{"raw":{"message":{"content":[5]}}}',
        b'{"raw":{"message":{"content":[{"type":"tool_use","name":"Write"}]}}}',
    ):
        files.see("message", data)
    assert files.paths() == []


def test_only_messages_with_such_calls_are_decoded() -> None:
    assert may_write(call("Write", file_path="x"))
    assert may_write(call("Edit", file_path="x").replace(b'"name":"Edit"', b'"name": "Edit"'))
    assert not may_write(call("Bash", command="x"))
    assert not may_write(b'{"text":"\\"name\\":\\"Write\\""}')
