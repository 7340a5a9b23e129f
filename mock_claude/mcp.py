"""MCP servers: those that live in the host (type sdk), and those that are commands.

Only what a client needs: initialize, tools/list, tools/call. Servers end with their stdin.
"""

import json
import os
import select
from typing import Any

from mock_claude import flags, machine, project
from mock_claude.bash import become_plain
from mock_claude.calls import Outcome, failed
from mock_claude.cli import Cli, Fatal, StreamClosed
from mock_claude.machine import Json

PROTOCOL = "2025-06-18"
LIMITS = {"tools/call": ("MCP_TOOL_TIMEOUT", 100_000_000)}
"""Per method: the variable that limits it, and the default in milliseconds; MCP_TIMEOUT for all others."""
CLIENT = {"name": "claude-code", "version": "2.1.329"}


class ServerFailed(Exception):
    """A server that did not start, broke, or did not answer in time."""


class HostServer:
    """A server inside the host, reached by control requests."""

    def __init__(self, cli: Cli, name: str) -> None:
        self.cli = cli
        self.name = name
        self._count = 0

    def request(self, method: str, params: Json) -> Json:
        """One JSON-RPC call. Raises ServerFailed."""
        self._count += 1
        message = {"jsonrpc": "2.0", "id": self._count, "method": method, "params": params}
        name, default_ms = LIMITS.get(method, ("MCP_TIMEOUT", 30_000))
        try:
            return _result(self._send(message, machine.env_number(name, default_ms) / 1000))
        except TimeoutError:
            about = {"requestId": self._count, "reason": "Error: MCP error -32001: timed out"}
            self.notify("notifications/cancelled", about)
            raise ServerFailed("MCP error -32001: Request timed out") from None

    def notify(self, method: str, params: Json | None = None) -> None:
        """One notification."""
        self._send({"jsonrpc": "2.0", "method": method, "params": params or {}}, None)

    def _send(self, message: Json, limit_s: float | None) -> Json:
        body = {"subtype": "mcp_message", "server_name": self.name, "message": message}
        try:
            reply = self.cli.ask(body, timeout_s=limit_s)
        except StreamClosed:
            raise ServerFailed("stream closed") from None
        if reply.get("subtype") == "error":
            raise ServerFailed(str(reply.get("error")))
        response: Json = (reply.get("response") or {}).get("mcp_response") or {}
        return response


class CommandServer:
    """A server that is a process of ours, reached over its stdin and stdout."""

    def __init__(self, cli: Cli, spec: Json) -> None:
        self._count = 0
        self._buffer = b""
        in_read, self._stdin = os.pipe()
        self._stdout, out_write = os.pipe()
        argv = [str(spec["command"]), *[str(word) for word in spec.get("args", [])]]
        environment = {**machine.child_env(cli.session.id), **(spec.get("env") or {})}
        if not os.fork():
            try:
                become_plain()
                os.dup2(in_read, 0)
                os.dup2(out_write, 1)
                os.closerange(3, 64)
                os.chdir(cli.cwd)
                os.execvpe(argv[0], argv, environment)  # noqa: S606
            finally:
                os._exit(127)
        os.close(in_read)
        os.close(out_write)

    def request(self, method: str, params: Json) -> Json:
        """One JSON-RPC call. Raises ServerFailed."""
        self._count += 1
        self._write({"jsonrpc": "2.0", "id": self._count, "method": method, "params": params})
        while True:
            message = self._read()
            if message.get("id") == self._count:
                return _result(message)

    def notify(self, method: str) -> None:
        """One notification."""
        self._write({"jsonrpc": "2.0", "method": method})

    def _write(self, message: Json) -> None:
        try:
            os.write(self._stdin, json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise ServerFailed(str(error)) from error

    def _read(self) -> Json:
        deadline = machine.now() + machine.env_number("MCP_TIMEOUT", 30_000) / 1000
        while b"\n" not in self._buffer:
            left = deadline - machine.now()
            if left <= 0 or not select.select([self._stdout], [], [], left)[0]:
                raise ServerFailed("timeout")
            chunk = os.read(self._stdout, 1 << 16)
            if not chunk:
                raise ServerFailed("closed")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError:
            raise ServerFailed("not JSON") from None
        return message if isinstance(message, dict) else {}


def _result(message: Json) -> Json:
    if "error" in message:
        raise ServerFailed(str(message["error"]))
    result = message.get("result")
    return result if isinstance(result, dict) else {}


Server = HostServer | CommandServer


def wanted(cli: Cli) -> Json:
    """The servers of `--mcp-config` and, if the project's files count, of its .mcp.json."""
    servers = flags.mcp_servers(cli.options)
    if not cli.options.has("strict-mcp-config") and "project" in project.sources(cli):
        stored = project.read_json(os.path.join(cli.cwd, ".mcp.json"))
        servers = {**(stored.get("mcpServers") or {}), **servers}
    return servers


def connect(cli: Cli, *, in_host: bool) -> None:
    """Start the servers of one sort and learn their tools; a broken one is `failed`."""
    for name, spec in wanted(cli).items():
        if (spec.get("type") == "sdk") != in_host or name in cli.mcp:
            continue
        try:
            server = _open(cli, name, spec)
            _learn(cli, name, server)
            status = "connected"
        except (ServerFailed, OSError, KeyError):
            status = "failed"
        cli.mcp_servers.append({"name": name, "status": status, "source": "dynamic"})


def _open(cli: Cli, name: str, spec: Json) -> Server:
    server: Server = (
        HostServer(cli, name) if spec.get("type") == "sdk" else CommandServer(cli, spec)
    )
    cli.mcp[name] = server
    params = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": CLIENT}
    server.request("initialize", params)
    server.notify("notifications/initialized")
    return server


def _learn(cli: Cli, name: str, server: Server) -> None:
    for tool in server.request("tools/list", {}).get("tools", []):
        full = f"mcp__{name}__{tool['name']}"
        cli.mcp_tools.append({"full_name": full, "name": tool["name"], "server": name})


def call(cli: Cli, full_name: str, arguments: Json) -> Outcome:
    """Call a tool of a server."""
    tool = next(item for item in cli.mcp_tools if item["full_name"] == full_name)
    server: Any = cli.mcp[tool["server"]]
    try:
        result = server.request("tools/call", {"name": tool["name"], "arguments": arguments})
    except ServerFailed as error:
        return failed(f"MCP error: {error}")
    content = result.get("content", [])
    if result.get("isError"):
        text = "\n".join(str(block.get("text", "")) for block in content)
        return failed(text)
    return Outcome(content, content)


def call_for_json(cli: Cli, full_name: str, arguments: Json) -> object:
    """Call a tool whose answer is JSON in a text block, such as a permission prompt tool."""
    content = call(cli, full_name, arguments).content
    try:
        text = content[0]["text"] if isinstance(content, list) else str(content)
        return json.loads(text)
    except (ValueError, LookupError, TypeError):
        raise Fatal(f"Error: MCP tool {full_name} returned no permission result") from None
