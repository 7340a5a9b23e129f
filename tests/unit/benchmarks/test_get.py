"""The client in C counts only whole answers with 200, and ends by itself when it gets others."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import bench_get, native


class Answers(BaseHTTPRequestHandler):
    """`/good` in two pieces; anything else is 404; `/short` says more than it has."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("Content-Length", "9" if self.path == "/short" else "4")
        self.end_headers()
        self.wfile.write(b"go")
        self.wfile.flush()
        self.wfile.write(b"od")
        self.close_connection = self.path == "/short"

    def log_message(self, *_args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def get(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("there is no cc")
    return native.compile_into(tmp_path_factory.mktemp("get"), "get")["get"]


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_it_asks_as_often_as_it_is_told(get: Path, port: int) -> None:
    found = bench_get.ask(get, port, 3, 50, "/good")
    assert found["requests"] == 50
    assert 0 < found["p50_us"] <= found["p99_us"] <= found["took_s"] * 1e6


@pytest.mark.parametrize("path", ["/none", "/short"])
def test_an_answer_that_is_not_as_it_should_be_ends_it(
    path: str, get: Path, port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        bench_get.ask(get, port, 1, 5, path)
    why = {"/none": "an answer is not 200", "/short": "a connection ended"}[path]
    assert why in capfd.readouterr().err


def test_it_must_be_told_a_count_within_its_limits(get: Path, port: int) -> None:
    for connections, requests in ((0, 5), (5, 4), (2000, 4000), (1, 10**8)):
        with pytest.raises(subprocess.CalledProcessError):
            bench_get.ask(get, port, connections, requests, "/good")
