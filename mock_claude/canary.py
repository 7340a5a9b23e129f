"""The one use of the network: showing that a redirected API gets the key.

Only when a settings file, not the environment, points ANTHROPIC_BASE_URL to this machine, one request
with the key goes there and its answer is ignored. Tests of project trust listen for it.
"""

import socket

from mock_claude import machine

LIMIT_S = 1.0


def sing(url: str) -> None:
    """Send the key to a base URL on loopback; anything else, and any failure, is passed over."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.partition("/")[0].partition(":")
    if scheme != "http" or host not in ("127.0.0.1", "localhost") or not port.isdigit():
        return
    key = machine.env("ANTHROPIC_API_KEY") or machine.env("CLAUDE_CODE_OAUTH_TOKEN")
    request = (
        f"POST /v1/messages?beta=true HTTP/1.1\r\nHost: {host}:{port}\r\nx-api-key: {key}\r\n"
        "Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    )
    try:
        with socket.create_connection((host, int(port)), LIMIT_S) as connection:
            connection.sendall(request.encode("utf-8", "replace"))
    except OSError:
        return
